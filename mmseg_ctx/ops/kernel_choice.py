"""Choose between the Triton kernels and PyTorch's operations."""

import logging
import os
from functools import cache, partial

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch.autograd.forward_ad import unpack_dual

from mmseg_ctx.ops.interpolation import Interpolation

_TYPES = torch.float16, torch.bfloat16, torch.float32
# A fake tensor, for instance, has no memory that a kernel could read.
_PLAIN = torch.Tensor, torch.nn.Parameter


def triton_kernels_for(*tensors, compare=None):
    """Return the module of the kernels, or None where PyTorch's operations are to be used.

    Kernels serve float16, bfloat16 and float32 on a CUDA or ROCm device for which Triton has a
    driver. At the first use of a device in a process, their results on a small input are compared
    with PyTorch's; if they differ or do not compile, a line in the log says so and the answer is
    None from then on. The environment variable ``MMSEG_CTX_TRITON=0`` turns the kernels off. What
    ``torch.jit.trace`` records has none.

    Args:
        *tensors (Tensor): What the kernels are to read, of one type and device.
        compare (Callable | None): Called with the module, the device and the type, it raises an
            error if results differ. Default: None, for the comparison of losses and labels.

    Returns:
        ModuleType | None: :mod:`mmseg_ctx.ops.triton_kernels` or None.
    """
    first = tensors[0]
    plain = all(type(each) in _PLAIN for each in tensors) and not torch.jit.is_tracing()
    if first.device.type != 'cuda' or not plain or os.environ.get('MMSEG_CTX_TRITON') == '0':
        return None
    if first.dtype not in _TYPES or any(each.dtype != first.dtype for each in tensors):
        return None
    return _checked_kernels(first.device, first.dtype, compare or _compare)


def is_transformed(*tensors):
    """Return whether ``torch.func`` or forward-mode differentiation looks into operations."""
    if torch.compiler.is_compiling():
        return False
    if torch._C._are_functorch_transforms_active():
        return True
    return any(unpack_dual(each).tangent is not None for each in tensors)


@cache
def _checked_kernels(device, dtype, compare):
    try:
        from mmseg_ctx.ops import triton_kernels

        with torch.inference_mode(False):
            compare(triton_kernels, device, dtype)
    except Exception as error:  # Triton, its compiler and its driver have many types of errors
        reason = str(error).strip().split('\n')[0] or type(error).__name__
        message = f'Triton kernels are not used for {dtype} on {device}, since: {reason}'
        print_log(message, logger='current', level=logging.WARNING)
        return None
    return triton_kernels


def _compare(kernels, device, dtype):
    """Raise an error if the kernels' results differ from PyTorch's.

    PyTorch's are computed on the CPU. On a GPU ``torch.use_deterministic_algorithms`` makes PyTorch
    refuse this loss and this gradient of a resizing.
    """
    # Not by autograd, since this may run inside of an operation, where autograd is off.
    logits = torch.linspace(-9, 9, 2 * 7 * 4 * 5).sin().reshape(2, 7, 4, 5).to(dtype)
    label = torch.arange(2 * 9 * 13).reshape(2, 9, 13) % 8 - 1
    options = dict(check_dtype=False, check_device=False, rtol=1e-2, atol=1e-2)
    close = partial(torch.testing.assert_close, **options)
    size, shape = label.shape[1:], logits.shape
    full = F.interpolate(logits.double(), size, mode='bilinear')
    target = torch.zeros_like(full).scatter_(1, label.clamp(min=0)[:, None], 1.0)
    slope = (full.softmax(1) - target) * (label >= 0)[:, None]
    expected = F.cross_entropy(full, label, ignore_index=-1, reduction='none')
    number = (label >= 0).sum()

    def close_gradient(actual, weight):
        gradient = torch.ops.aten.upsample_bilinear2d_backward(
            slope * weight, size, shape, False, None, None
        )
        close(actual, gradient)

    best_class, normaliser = full.argmax(1), full.logsumexp(1).masked_fill(label < 0, torch.inf)
    logits, label = logits.to(device), label.to(device)
    losses, log_normaliser, best = kernels.pixel_losses(logits, label, False)
    arguments = logits, label, log_normaliser, False
    close(log_normaliser, normaliser, rtol=1e-5, atol=1e-5)
    close(best, best_class, rtol=0, atol=0)
    close(losses, expected)
    close_gradient(kernels.pixel_losses_backward(losses, *arguments), expected[:, None])
    loss, *_, scale = kernels.reduced_losses(logits, label, None, -1, False, None, 0.0, 1.0)
    close(loss, expected.sum() / number)
    count = 1 / scale
    close(count, number)
    close_gradient(kernels.pixel_losses_backward(count, *arguments, scale), 1)
    sides = [
        [Interpolation.identity(cells, log_normaliser).resize(length, False)]
        for cells, length in zip(shape[2:], size, strict=True)
    ]
    close(kernels.label_map([logits[0]], *sides)[0], best[0], rtol=0, atol=0)

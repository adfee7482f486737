"""Weights that vary over pixels and channels (CaC-Net, Section 3.2)."""

from functools import partial, reduce

import torch

from mmseg_ctx.ops.depthwise import check_kernels, dynamic_depthwise_conv2d
from mmseg_ctx.ops.kernel_choice import is_transformed, triton_kernels_for
from mmseg_ctx.ops.precision import at_least_float32, autocast_off


def spatially_varying_weights(x, kernels, dilations=(1, 2, 3)):
    """Sum the sigmoids of depthwise convolutions with one kernel at several dilations (Eq. 2).

    The convolutions run in float32 or wider. A sigmoid depends on differences of about one, which
    half precision cannot represent in large sums.

    Args:
        x (Tensor): Features ``[B, C, h, w]``, of any memory format and floating-point type.
        kernels (Tensor): ``[B, C, k, k]``, a kernel for each image and channel.
        dilations (Sequence[int]): The dilations. Default: ``(1, 2, 3)``.

    Returns:
        Tensor: W ``[B, C, h, w]`` in the type of ``x``, between 0 and the number of dilations.

    Example:
        >>> spatially_varying_weights(torch.rand(2, 8, 5, 7), torch.rand(2, 8, 3, 3)).shape
        torch.Size([2, 8, 5, 7])
    """
    with autocast_off(x):
        kernels = at_least_float32(kernels)
        if not _has_kernels(x, kernels):
            return _by_convolutions(x, kernels, dilations)
        for dilation in dilations:
            check_kernels(x, kernels, dilation)
        return _Weights.apply(x.contiguous(), kernels.contiguous(), tuple(dilations))


def _has_kernels(x, kernels):
    """Return whether Triton's kernels are to be used, which PyTorch cannot look into."""
    if torch.compiler.is_compiling() or is_transformed(x, kernels):
        return False
    plain = kernels.dtype == torch.float32
    return plain and triton_kernels_for(x, compare=_compare) is not None


def _by_convolutions(x, kernels, dilations):
    features = at_least_float32(x).contiguous()
    # In place: the gradient of a sigmoid needs only its output.
    maps = (dynamic_depthwise_conv2d(features, kernels, d).sigmoid_() for d in dilations)
    return reduce(torch.add, maps).to(x.dtype)


class _Weights(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, kernels, dilations):
        ctx.save_for_backward(x, kernels)
        ctx.dilations = dilations
        module = triton_kernels_for(x, compare=_compare)
        return module.spatial_weights(x, kernels, dilations)

    @staticmethod
    def backward(ctx, grad):
        x, kernels = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradients are to be differentiated, too
            with autocast_off(x):
                convolutions = partial(_by_convolutions, dilations=ctx.dilations)
                return *torch.func.vjp(convolutions, x, kernels)[1](grad), None
        module = triton_kernels_for(x, compare=_compare)
        return *module.spatial_weights_backward(grad, x, kernels, ctx.dilations), None


def _compare(module, device, dtype):
    """Raise an error if the kernels' results differ from PyTorch's."""
    # PyTorch's are computed on the CPU, since a GPU would convolve in TF32.
    x = torch.linspace(-9, 9, 2 * 3 * 7 * 5).sin().reshape(2, 3, 7, 5)
    kernels, dilations = x[..., :3, :3].contiguous(), (1, 2)
    x, grad = x.to(dtype), x.flip(3).to(dtype)
    expected, pullback = torch.func.vjp(partial(_by_convolutions, dilations=dilations), x, kernels)
    expected_gradients = pullback(grad)
    x, kernels, grad = (each.to(device) for each in (x, kernels, grad))
    close = partial(torch.testing.assert_close, check_device=False, rtol=1e-2, atol=1e-2)
    close(module.spatial_weights(x, kernels, dilations), expected)
    close(module.spatial_weights_backward(grad, x, kernels, dilations), expected_gradients)

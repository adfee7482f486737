"""Compute in float32 where the types of autocast are not precise enough."""

from contextlib import contextmanager, nullcontext

import torch


def autocast_off(tensor):
    """Return a context manager that turns autocast off on the device of ``tensor``.

    Where autocast is off already, it does nothing, so that exported graphs have no subgraph for it.

    Args:
        tensor (Tensor): Any tensor, also on the meta device.

    Returns:
        ContextManager: The context manager, for ``with``.
    """
    if tensor.is_meta or not torch.is_autocast_enabled(tensor.device.type):
        return nullcontext()
    return torch.autocast(tensor.device.type, enabled=False)


def at_least_float32(tensor):
    """Return ``tensor`` in float32, or unchanged if its type is float32 or wider.

    Args:
        tensor (Tensor): A tensor of any floating-point type.

    Returns:
        Tensor: The same values and shape.
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


@contextmanager
def exact_matmul():
    """Let products of float32 matrices be computed in float32, not in TF32 or bfloat16.

    So interpolation does not depend on ``torch.set_float32_matmul_precision``, as PyTorch's own.
    """
    if hasattr(torch.backends.cuda.matmul, 'fp32_precision'):
        places = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
        name, exact = 'fp32_precision', 'ieee'
    else:  # PyTorch before 2.9
        places, name, exact = (torch.backends.cuda.matmul,), 'allow_tf32', False
    before = [getattr(place, name) for place in places]
    try:
        for place in places:
            setattr(place, name, exact)
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            setattr(place, name, value)

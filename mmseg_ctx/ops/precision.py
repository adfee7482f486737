"""Computing in float32 where autocast's types are too coarse."""

from contextlib import nullcontext

import torch


def autocast_off(tensor):
    """Return a context in which autocast leaves operations on the device of ``tensor`` alone.

    Where autocast is off already nothing is entered, which keeps exported graphs flat.

    Args:
        tensor (Tensor): Any tensor, one on the meta device included.

    Returns:
        ContextManager: To be entered by ``with``.
    """
    if tensor.is_meta or not torch.is_autocast_enabled(tensor.device.type):
        return nullcontext()
    return torch.autocast(tensor.device.type, enabled=False)


def at_least_float32(tensor):
    """Return ``tensor`` in float32, or as it is where its type is at least as wide.

    Args:
        tensor (Tensor): Any floating-point type.

    Returns:
        Tensor: The same values and shape.
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))

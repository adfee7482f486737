"""Weights that vary over pixels and channels (CaC-Net, Section 3.2)."""

import functools

import torch

from mmseg_ctx.ops.depthwise import dynamic_depthwise_conv2d
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
        features, kernels = at_least_float32(x).contiguous(), at_least_float32(kernels)
        # In place: the gradient of a sigmoid needs only its output.
        maps = (dynamic_depthwise_conv2d(features, kernels, d).sigmoid_() for d in dilations)
        weights = functools.reduce(torch.add, maps)
    return weights.to(x.dtype)

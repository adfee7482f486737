"""Products of one image's features with classes, a few rows at a time, on the CPU.

Both are a convolution with a kernel of 1×1, or the gradient of one, which oneDNN computes faster
than a matrix product so long as the copies that it makes of the features stay in the cache.
"""

import torch
import torch.nn.functional as F
from torch.nn.grad import conv2d_weight

BLOCK = 2**19  # features that are worked on at a time: 2 MiB in float32


def fits_row_blocks(features):
    """Return whether features ``[B, d, h, w]`` are one image's, on the CPU.

    Never where autograd records, which has no use for blocks, nor in a graph, which fits any size.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    return features.device.type == 'cpu' and features.size(0) == 1 and features.numel() > 0


def pixel_products(features, weight):
    """Multiply each pixel's feature with each class's weights, and take its length.

    Args:
        features (Tensor): ``[1, d, h, w]``.
        weight (Tensor): ``[N, d]``, of the same type.

    Returns:
        tuple[Tensor, Tensor]: Products ``[1, N, h, w]`` and norms ``[1, 1, h, w]``.
    """
    products = features.new_empty(1, len(weight), *features.shape[2:])
    norms = features.new_empty(1, 1, *features.shape[2:])
    weight = weight[:, :, None, None]
    for rows, block in _blocks(features):
        block = block.contiguous()
        products[:, :, rows] = F.conv2d(block, weight)
        norms[:, :, rows] = block.square().sum(dim=1, keepdim=True).sqrt_()
    return products, norms


def class_sums(features, membership):
    """Add up the pixels' features, weighted by how much they belong to each class.

    Args:
        features (Tensor): ``[1, d, h, w]``.
        membership (Tensor): ``[1, N, h, w]``, of the same type.

    Returns:
        Tensor: ``[1, N, d]``.
    """
    shape = (membership.size(1), features.size(1), 1, 1)
    sums = features.new_zeros(shape)
    for rows, block in _blocks(features):
        sums += conv2d_weight(block, shape, membership[:, :, rows])
    return sums[None, :, :, 0, 0]


def _blocks(features):
    """Yield slices of rows, and the features in them."""
    height = max(BLOCK // features[:, :, 0].numel(), 1)
    for top in range(0, features.size(2), height):
        rows = slice(top, top + height)
        yield rows, features[:, :, rows]

"""Average pooling to a grid of regions, which can be exported to ONNX for maps of any size."""

import torch
import torch.nn.functional as F


def adaptive_avg_pool2d(x, output_size):
    """Average features over a grid of regions, as ``F.adaptive_avg_pool2d`` does.

    ONNX has no such operation. PyTorch's export of it fixes the number of pixels in a region, and
    is silently wrong for maps of another size. So in an export to ONNX, this function multiplies
    the map by two matrices, which the graph computes from the size of the map.

    Args:
        x (Tensor): ``[B, C, h, w]``.
        output_size (int | Sequence[int | None]): k of a grid of k×k regions, or the height and
            width of the grid; None in their place keeps the size of the map.

    Returns:
        Tensor: ``[B, C, k, k]``.

    Example:
        >>> adaptive_avg_pool2d(torch.rand(2, 8, 5, 7), 3).shape
        torch.Size([2, 8, 3, 3])
    """
    if not torch.onnx.is_in_onnx_export():
        return F.adaptive_avg_pool2d(x, output_size)
    rows, columns = (output_size, output_size) if isinstance(output_size, int) else output_size
    out = x
    if rows is not None:
        out = _regions(rows, x.size(2), x) @ out  # [B, C, rows, w]
    if columns is not None:
        out = out @ _regions(columns, x.size(3), x).T  # [B, C, rows, columns]
    return out


def _regions(count, length, like):
    """Return a matrix ``[count, length]`` that averages an axis over regions.

    Region i is from the floor of i * length / count to the ceiling of (i + 1) * length / count, so
    neighbouring regions may overlap.
    """
    position = torch.arange(length, device=like.device)  # [length]
    region = torch.arange(count, device=like.device)[:, None]  # [count, 1]
    # Both sides are multiplied by the count: integers are compared without rounding.
    inside = ((position + 1) * count > region * length) & (position * count < (region + 1) * length)
    inside = inside.to(like.dtype)
    return inside / inside.sum(dim=1, keepdim=True)

"""Average pooling to a grid of regions, in a form that ONNX can express for maps of any size."""

import torch
import torch.nn.functional as F


def adaptive_avg_pool2d(x, output_size):
    """Average features over a grid of regions, as ``F.adaptive_avg_pool2d`` does.

    ONNX has no such operation. While a model is exported to ONNX the regions are rows of two
    matrices, made from the size of the map at hand; PyTorch's own way out freezes the number of
    pixels a region has, and is silently wrong for maps of another size.

    Args:
        x (Tensor): ``[B, C, h, w]``.
        output_size (int | Sequence[int | None]): k of a grid of k×k regions, or its height and
            width, where None is the size of the map.

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
    """Return the weights ``[count, length]`` with which regions average the places of an axis.

    Region i reaches from the floor of i * length / count to the ceiling of (i + 1) * length /
    count, so neighbours may overlap.
    """
    places = torch.arange(length, device=like.device)  # [length]
    region = torch.arange(count, device=like.device)[:, None]  # [count, 1]
    # Multiplied by the count, so that nothing is rounded.
    inside = ((places + 1) * count > region * length) & (places * count < (region + 1) * length)
    inside = inside.to(like.dtype)
    return inside / inside.sum(dim=1, keepdim=True)

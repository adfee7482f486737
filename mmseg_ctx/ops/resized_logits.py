"""Labels of an image from logits that never exist at its size."""

import torch

from mmseg_ctx.ops.interpolation import tile_size
from mmseg_ctx.ops.precision import autocast_off, widen


class ResizedLogits:
    """Logits of one image at some size, made tile by tile from small ones.

    Resizing, cropping, flipping, and adding up the windows of a grid act on rows and on columns
    separately and linearly. So whatever chain of them there is, it is one matrix for the rows of a
    window and one for its columns. Computed in float32 or wider, without gradients.

    Args:
        windows (Sequence[Sequence[Tensor]]): Small logits of each window of a grid, ``[N, h, w]``.
            A whole image is a grid of one.
        rows (Sequence[Interpolation]): From a window's rows to the image's, for each row of the
            grid.
        columns (Sequence[Interpolation]): From a window's columns to the image's, for each column
            of the grid.

    Example:
        >>> logits = torch.randn(6, 8, 8)
        >>> side = Interpolation.identity(8, logits).resize(60, align_corners=False)
        >>> predicted_labels(ResizedLogits([[logits]], [side], [side])).shape
        torch.Size([1, 60, 60])
    """

    def __init__(self, windows, rows, columns):
        self.windows, self.rows, self.columns = windows, rows, columns

    @property
    def shape(self):
        """tuple[int, int, int]: N, H, W."""
        return len(self.windows[0][0]), len(self.rows[0].first), len(self.columns[0].first)

    @property
    def device(self):
        """torch.device: Where the small logits are."""
        return self.windows[0][0].device

    def tile(self, top, left, height, width):
        """Make a part of the image, smaller at its end.

        Args:
            top (int): First row.
            left (int): First column.
            height (int): Number of rows.
            width (int): Number of columns.

        Returns:
            Tensor: ``[height, width, N]``.
        """
        column_tiles = [columns.tile(left, width) for columns in self.columns]
        tile = 0
        for rows, windows in zip(self.rows, self.windows, strict=True):
            row_matrix, row_sources = rows.tile(top, height)
            if row_sources.start == row_sources.stop:
                continue
            for (column_matrix, column_sources), window in zip(column_tiles, windows, strict=True):
                if column_sources.start == column_sources.stop:
                    continue
                pixels = window[:, row_sources, column_sources].permute(1, 2, 0)  # [r, c, N]
                pixels = widen(pixels).contiguous()
                mixed = (row_matrix @ pixels.flatten(1)).unflatten(1, pixels.shape[1:])
                tile = tile + column_matrix @ mixed  # [height, width, N]
        return tile


def predicted_labels(logits, threshold=None):
    """Return the best class of each pixel.

    Args:
        logits (ResizedLogits): Of ``N`` classes; or of one, then a pixel is of it where the sigmoid
            is above the threshold.
        threshold (float | None): For one class. Default: None.

    Returns:
        Tensor: Classes, int64; or for one class zeros and ones, float32; ``[1, H, W]``.
    """
    return _labels([logits], threshold, next, lambda tiles: next(tiles).sigmoid())


def averaged_labels(passes, threshold=None):
    """Return the best class of each pixel by the mean probability of several passes.

    Args:
        passes (Sequence[ResizedLogits]): All of one shape.
        threshold (float | None): For one class, whose probability is the sigmoid of its sigmoid, as
            MMSegmentation's test-time augmentation has it. Default: None.

    Returns:
        Tensor: As of :func:`predicted_labels`.

    Raises:
        ValueError: The passes' shapes differ.
    """
    shapes = sorted({each.shape for each in passes})
    if len(shapes) > 1:
        raise ValueError(f'passes must have one shape [N, H, W], got {shapes}')
    return _labels(
        passes,
        threshold,
        lambda tiles: sum(tile.softmax(2) for tile in tiles),
        lambda tiles: sum(tile.sigmoid().sigmoid() for tile in tiles) / len(passes),
    )


@torch.no_grad()
def _labels(passes, threshold, score_classes, score_one_class):
    """Return the label map; the last two arguments turn the passes' tiles into scores of one."""
    classes, height, width = passes[0].shape
    device = passes[0].device
    label = torch.empty(height, width, dtype=torch.long if classes > 1 else None, device=device)
    rows, columns = tile_size(classes, height, width, device)
    with autocast_off(label):
        for top in range(0, height, rows):
            for left in range(0, width, columns):
                tiles = (each.tile(top, left, rows, columns) for each in passes)
                if classes > 1:  # faster on the CPU than argmax, and the first of equals as well
                    best = score_classes(tiles).max(2).indices
                else:
                    best = score_one_class(tiles).squeeze(2) > threshold
                label[top : top + rows, left : left + columns] = best
    return label[None]

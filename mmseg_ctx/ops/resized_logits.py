"""Labels of an image from logits that never exist at its size."""

from functools import reduce
from itertools import product

import torch
import torch.nn.functional as F

from mmseg_ctx.ops.interpolation import tile_size
from mmseg_ctx.ops.precision import at_least_float32, autocast_off


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

    def tiles(self, height, width):
        """Make the image part by part, in the order of the lines of a text.

        Args:
            height (int): Number of rows of a part, fewer at the end of the image.
            width (int): Number of columns of a part, likewise.

        Yields:
            Tensor: A part, ``[height, N, width]``.
        """
        _, image_height, image_width = self.shape
        lefts = [_crossing(self.columns, left, width) for left in range(0, image_width, width)]
        for top in range(0, image_height, height):
            rows = _crossing(self.rows, top, height)
            for columns in lefts:
                parts = (
                    _mix(self.windows[line][place], *row, *column)
                    for line, *row in rows
                    for place, *column in columns
                )
                yield reduce(torch.add, parts)


def _crossing(sides, start, length):
    """Return the windows that a part crosses, and what it takes of them along a side."""
    tiles = ((index, *side.tile(start, length)) for index, side in enumerate(sides))
    return [tile for tile in tiles if tile[1].size(1)]


def _mix(window, row_matrix, rows, column_matrix, columns):
    """Multiply a part of ``window`` ``[N, h, w]`` by both matrices; return ``[H, N, W]``.

    Of infinite logits, such as those of a class that is left out, a pixel that does not read them
    would get a NaN, from its weight of 0. So they are large here, and NaN is the largest, as for
    ``argmax``. That is below the largest number, since a pixel's weights may add up to more than 1.
    """
    pixels = at_least_float32(window[:, rows, columns].transpose(0, 1)).contiguous()  # [h, N, w]
    largest = torch.finfo(pixels.dtype).max / 2
    pixels = pixels.nan_to_num(torch.inf).clamp_(-largest, largest)
    mixed = (row_matrix @ pixels.flatten(1)).unflatten(1, pixels.shape[1:])  # [H, N, w]
    return mixed @ column_matrix.t()


def _best_classes(scores):
    """Return the best class of scores ``[H, N, W]``, of equals the first; ``[H, W]``."""
    if scores.device.type != 'cpu':
        return scores.max(1).indices
    # With the columns as channels, the last in memory, PyTorch pools several at a time; its
    # reductions with indices do not.
    pixels = scores[:, :, None].permute(0, 3, 1, 2)  # [H, W, N, 1]
    return F.max_pool2d(pixels, (scores.size(1), 1), return_indices=True)[1][..., 0, 0]


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
        lambda tiles: sum(tile.softmax(1) for tile in tiles),
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
        parts = [each.tiles(rows, columns) for each in passes]
        for top, left in product(range(0, height, rows), range(0, width, columns)):
            tiles = map(next, parts)  # one at a time
            if classes > 1:
                best = _best_classes(score_classes(tiles))
            else:
                best = score_one_class(tiles).squeeze(1) > threshold
            label[top : top + rows, left : left + columns] = best
    return label[None]

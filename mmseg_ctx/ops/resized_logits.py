"""Labels of an image without logits of the image's size."""

from functools import reduce
from itertools import product

import torch
import torch.nn.functional as F

from mmseg_ctx.ops.interpolation import tile_size
from mmseg_ctx.ops.precision import at_least_float32, autocast_off


class ResizedLogits:
    """Logits of one image, computed tile by tile from small logits.

    Resizing, cropping, flipping, and averaging over windows are linear and act on rows and columns
    separately. So any chain of them is two matrices for each window, one for its rows and one for
    its columns. Tiles are computed in float32 or wider, without gradients.

    Args:
        windows (Sequence[Sequence[Tensor]]): Small logits ``[N, h, w]`` of each window in a grid,
            row by row. A whole image is a grid of one window.
        rows (Sequence[Interpolation]): For each row of the grid, the map from the rows of a
            window's logits to the rows of the image.
        columns (Sequence[Interpolation]): For each column of the grid, the map from the columns of
            a window's logits to the columns of the image.

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
        """torch.device: Device of the small logits."""
        return self.windows[0][0].device

    def tiles(self, height, width):
        """Compute the image tile by tile, from left to right and from top to bottom.

        Args:
            height (int): Number of rows of a tile. The last tiles may have fewer.
            width (int): Number of columns of a tile. The last tiles may have fewer.

        Yields:
            Tensor: A tile, ``[height, N, width]``.
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

    @torch.no_grad()
    def full(self):
        """Return the logits of the whole image, ``[N, H, W]``."""
        classes, height, width = self.shape
        rows, columns = tile_size(classes, height, width, self.device)
        logits = at_least_float32(self.windows[0][0][:0]).new_empty(self.shape)
        with autocast_off(logits):
            tiles = self.tiles(rows, columns)
            for top, left in product(range(0, height, rows), range(0, width, columns)):
                tile = next(tiles).transpose(0, 1)
                logits[:, top : top + rows, left : left + columns] = tile
        return logits


def _crossing(sides, start, length):
    """Return, for each window that a tile reads, its index, matrix and sources along a side."""
    tiles = ((index, *side.tile(start, length)) for index, side in enumerate(sides))
    return [tile for tile in tiles if tile[1].size(1)]


def _mix(window, row_matrix, rows, column_matrix, columns):
    """Multiply a part of ``window`` ``[N, h, w]`` by both matrices; return ``[H, N, W]``.

    Infinity times a weight of 0 would be NaN, also at pixels that do not read the infinite logit.
    So infinite logits become large finite numbers here, and NaN the largest, as in ``argmax``.
    These are half of the type's maximum, since a pixel's weights may add up to more than 1.
    """
    pixels = at_least_float32(window[:, rows, columns].transpose(0, 1)).contiguous()  # [h, N, w]
    largest = torch.finfo(pixels.dtype).max / 2
    pixels = pixels.nan_to_num(torch.inf).clamp_(-largest, largest)
    mixed = (row_matrix @ pixels.flatten(1)).unflatten(1, pixels.shape[1:])  # [H, N, w]
    return mixed @ column_matrix.t()


def _best_classes(scores):
    """Return the class ``[H, W]`` of the largest score ``[H, N, W]``; of equal ones, the first."""
    if scores.device.type != 'cpu':
        return scores.max(1).indices
    # max_pool2d, with the columns as channels and last in memory, is vectorised; max with indices
    # is not.
    pixels = scores[:, :, None].permute(0, 3, 1, 2)  # [H, W, N, 1]
    return F.max_pool2d(pixels, (scores.size(1), 1), return_indices=True)[1][..., 0, 0]


def predicted_labels(logits, threshold=None):
    """Return the class of each pixel.

    Args:
        logits (ResizedLogits): Logits of N classes. If N is 1, a pixel belongs to the class where
            the sigmoid of its logit is above ``threshold``.
        threshold (float | None): Required if N is 1. Default: None.

    Returns:
        Tensor: ``[1, H, W]``: classes, int64; if N is 1, zeros and ones, float32.
    """
    return _labels([logits], threshold, next, lambda tiles: next(tiles).sigmoid())


def averaged_labels(passes, threshold=None):
    """Return the class of each pixel by the mean probability of several passes.

    If N is 1, MMSegmentation's test-time augmentation applies the sigmoid twice; so does this
    function.

    Args:
        passes (Sequence[ResizedLogits]): The logits of each pass, all of the same shape.
        threshold (float | None): Required if N is 1. Default: None.

    Returns:
        Tensor: See :func:`predicted_labels`.

    Raises:
        ValueError: The passes differ in shape.
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
    """Return the label map.

    Args:
        passes (Sequence[ResizedLogits]): The logits of each pass.
        threshold (float | None): See :func:`predicted_labels`.
        score_classes (Callable): Merges the passes' tiles into one tile of scores, for N > 1.
        score_one_class (Callable): Merges them into probabilities, for N = 1.
    """
    classes, height, width = passes[0].shape
    device = passes[0].device
    label = torch.empty(height, width, dtype=torch.long if classes > 1 else None, device=device)
    rows, columns = tile_size(classes, height, width, device)
    with autocast_off(label):
        parts = [each.tiles(rows, columns) for each in passes]
        for top, left in product(range(0, height, rows), range(0, width, columns)):
            tiles = map(next, parts)  # lazy: one tile in memory at a time
            if classes > 1:
                best = _best_classes(score_classes(tiles))
            else:
                best = score_one_class(tiles).squeeze(1) > threshold
            label[top : top + rows, left : left + columns] = best
    return label[None]

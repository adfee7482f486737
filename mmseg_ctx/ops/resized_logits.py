"""Labels of an image without logits of the image's size."""

from itertools import product

import torch
import torch.nn.functional as F

from mmseg_ctx.ops.interpolation import Interpolation, tile_size
from mmseg_ctx.ops.kernel_choice import triton_kernels_for
from mmseg_ctx.ops.precision import at_least_float32, autocast_off, exact_matmul
from mmseg_ctx.ops.threads import in_threads


class ResizedLogits:
    """Logits of one image, computed tile by tile from small logits.

    Resizing, cropping, flipping, and averaging over windows are linear and act on rows and columns
    separately. So any chain of them is a map of rows and a map of columns, also of several windows:
    their logits are put side by side. Tiles are computed in float32 or wider, without gradients.

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
        lines = [line[0] if len(line) == 1 else torch.cat(list(line), 2) for line in windows]
        self.logits = lines[0] if len(lines) == 1 else torch.cat(lines, 1)  # of all windows
        self.rows, self.columns = Interpolation.join(rows), Interpolation.join(columns)

    @property
    def shape(self):
        """tuple[int, int, int]: N, H, W."""
        return len(self.logits), len(self.rows.first), len(self.columns.first)

    def tiles(self, tops, height, width, keep_band=True):
        """Compute tiles of the image, from left to right and from top to bottom.

        Args:
            tops (Sequence[int]): First rows of the tiles.
            height (int): Number of rows of a tile. At the end of the image there may be fewer.
            width (int): Number of columns of a tile. At the end of the image there may be fewer.
            keep_band (bool): Whether to resize the rows of all tiles beside each other at once,
                which takes less time and more memory. Default: True.

        Yields:
            Tensor: A tile, ``[height, N, width]``.
        """
        lefts = range(0, self.shape[2], width)
        columns = [self.columns.tile(left, width) for left in lefts]
        for top in tops:
            rows = self.rows.tile(top, height)
            band = self._resized_rows(*rows) if keep_band else None
            for matrix, sources in columns:
                if keep_band:
                    yield band[..., sources] @ matrix.t()
                else:
                    yield self._resized_rows(*rows, sources) @ matrix.t()

    def _resized_rows(self, matrix, rows, columns=slice(None)):
        """Multiply rows by a matrix ``[H, h]``; return ``[H, N, w]`` of some columns."""
        cells = _finite(self.logits[:, rows, columns].transpose(0, 1))  # [h, N, w]
        return (matrix @ cells.flatten(1)).unflatten(1, cells.shape[1:])

    def full(self):
        """Return the logits of the whole image, ``[N, H, W]``."""
        logits = at_least_float32(self.logits[:0]).new_empty(self.shape)
        _visit_tiles(
            [self],
            lambda area, tiles: logits[(slice(None), *area)].copy_(next(tiles).transpose(0, 1)),
        )
        return logits


def _finite(logits):
    """Return float32 logits, contiguous, with finite numbers in the place of infinite ones and NaN.

    Infinity times a weight of 0 would be NaN, also at pixels that do not read the infinite logit.
    So infinite logits become large finite numbers here, and NaN the largest, as in ``argmax``.
    These are half of the type's maximum, since a pixel's weights may add up to more than 1.
    """
    pixels = at_least_float32(logits).contiguous()
    largest = torch.finfo(pixels.dtype).max / 2
    return pixels.nan_to_num(torch.inf).clamp_(-largest, largest)


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
    return _labels([logits], threshold)


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
    return _labels(passes if len(passes) > 1 else [*passes, *passes], threshold)


@torch.no_grad()
def _labels(passes, threshold):
    """Return the label map, of one pass by its logits, of several by their probabilities."""
    parts = [[getattr(each, name) for each in passes] for name in ('logits', 'rows', 'columns')]
    kernels = triton_kernels_for(*parts[0])
    label = kernels.label_map(*parts, threshold) if kernels else None
    if label is not None:
        return label
    classes, *size = passes[0].shape
    kind = torch.long if classes > 1 else None
    label = torch.empty(size, dtype=kind, device=passes[0].logits.device)

    def scores(tiles):
        if len(passes) == 1:
            return next(tiles) if classes > 1 else next(tiles).sigmoid()
        if classes > 1:
            return sum(tile.softmax(1) for tile in tiles)
        return sum(tile.sigmoid().sigmoid() for tile in tiles) / len(passes)

    def visit(area, tiles):
        score = scores(tiles)
        label[area] = _best_classes(score) if classes > 1 else score.squeeze(1) > threshold

    _visit_tiles(passes, visit)
    return label[None]


@torch.no_grad()
def _visit_tiles(passes, visit):
    """Call ``visit`` with the index of each tile into ``[H, W]``, and an iterator over its logits.

    The iterator yields the tile ``[R, N, S]`` of each pass, so that one is in memory at a time.
    """
    _, height, width = passes[0].shape
    rows, columns = tile_size(passes[0].shape[0], height, width, passes[0].logits.device)

    def visit_bands(tops):
        alone = len(passes) == 1
        parts = [each.tiles(tops, rows, columns, keep_band=alone) for each in passes]
        for top, left in product(tops, range(0, width, columns)):
            visit((slice(top, top + rows), slice(left, left + columns)), map(next, parts))

    with autocast_off(passes[0].logits), exact_matmul():
        in_threads(visit_bands, range(0, height, rows), passes[0].logits.device)

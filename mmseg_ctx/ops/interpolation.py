"""Linear interpolation along one side of an image, as matrices that are taken tile by tile."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

# How much is worked on at a time. On the CPU a tile stays in the cache, and few columns and rows
# keep the interpolation's matrix products small; an accelerator wants few, large kernels.
CPU_TILE_VALUES, CPU_TILE_ROWS, CPU_TILE_COLUMNS = 2**18, 128, 64
DEVICE_TILE_VALUES = 2**24


class Interpolation(NamedTuple):
    """A linear map along one side: which sources each target reads, and with what weights.

    It begins as :meth:`identity`. Each other method but :meth:`tile` returns the map that is
    followed by one more step, so that a chain of steps is one map. K is 1, and doubles with each
    resizing.

    Attributes:
        size (int): Number of sources.
        index (Tensor): Sources of each target, ``[target, K]``.
        weights (Tensor): Their weights, ``[target, K]``.
        first (ndarray): The first source that each target may read, ``[target]``. What a tile reads
            is known by these without a look at the tensors, for which a device would have to be
            waited for.
        last (ndarray): The last one, ``[target]``; before the first where there is none.

    Example:
        >>> rows = Interpolation.identity(4, torch.zeros(())).resize(8, align_corners=False)
        >>> rows.tile(0, 2)
        (tensor([[1.0000, 0.0000],
                [0.7500, 0.2500]]), slice(0, 2, None))
    """

    size: int
    index: torch.Tensor
    weights: torch.Tensor
    first: np.ndarray
    last: np.ndarray

    @classmethod
    def identity(cls, size, like):
        """Return the map that leaves values as they are.

        Args:
            size (int): Number of sources and of targets.
            like (Tensor): Whose type and device the weights have.

        Returns:
            Interpolation: The map.
        """
        index = torch.arange(size, device=like.device)[:, None]
        first = np.arange(size)
        return cls(size, index, torch.ones_like(index, dtype=like.dtype), first, first)

    def resize(self, length, align_corners):
        """Interpolate the targets as ``torch.nn.functional.interpolate`` does.

        Args:
            length (int): New number of targets.
            align_corners (bool): As there.

        Returns:
            Interpolation: The longer chain.
        """
        current = len(self.first)

        # A target's position among the current ones, as a fraction of integers, which has a whole
        # part without rounding.
        def fraction(target):
            if align_corners:
                return target * (current - 1), max(length - 1, 1)
            return ((2 * target + 1) * current - length).clip(0), 2 * length

        above, below = fraction(torch.arange(length, device=self.index.device))
        lower = above // below
        upper = (lower + 1).clip(max=current - 1)
        share = ((above - lower * below).to(self.weights.dtype) / below)[:, None]  # of the upper
        weights = [self.weights[lower] * (1 - share), self.weights[upper] * share]
        above, below = fraction(np.arange(length))
        lowest = above // below
        highest = (lowest + 1).clip(max=current - 1)
        return self._replace(
            index=torch.cat([self.index[lower], self.index[upper]], 1),
            weights=torch.cat(weights, 1),
            first=np.minimum(self.first[lowest], self.first[highest]),
            last=np.maximum(self.last[lowest], self.last[highest]),
        )

    def crop(self, start, stop):
        """Return the map to the targets from ``start`` to before ``stop``."""
        part = slice(start, stop)
        return Interpolation(self.size, *(each[part] for each in self[1:]))

    def flip(self):
        """Return the map to the targets in the opposite order."""
        tensors = self.index.flip(0), self.weights.flip(0)
        return Interpolation(self.size, *tensors, self.first[::-1], self.last[::-1])

    def place(self, start, length):
        """Return the map to ``length`` targets, of which these are some; the others are zero.

        Args:
            start (int): Where these begin.
            length (int): New number of targets.

        Returns:
            Interpolation: The longer chain.
        """
        around = start, length - start - len(self.first)
        return self._replace(
            index=F.pad(self.index, (0, 0, *around)),
            weights=F.pad(self.weights, (0, 0, *around)),
            first=np.pad(self.first, around, constant_values=self.size),
            last=np.pad(self.last, around, constant_values=-1),
        )

    def scale(self, factors):
        """Return the map to the targets times ``factors`` ``[target]``."""
        return self._replace(weights=self.weights * factors[:, None])

    def tile(self, start, length):
        """Return what makes ``length`` targets, fewer at the end.

        Args:
            start (int): The first of them.
            length (int): Their number.

        Returns:
            tuple[Tensor, slice]: A matrix ``[length, sources]``, and the sources that it reads, if
            any.
        """
        targets = slice(start, start + length)
        first, last = int(self.first[targets].min()), int(self.last[targets].max())
        sources = slice(first, max(first, last + 1))
        weights = self.weights[targets]
        matrix = weights.new_zeros(len(weights), sources.stop - first)
        if matrix.numel():
            # What has no weight may point elsewhere.
            index = (self.index[targets] - first).clamp(0, matrix.size(1) - 1)
            matrix.scatter_add_(1, index, weights)
        return matrix, sources


def tile_size(depth, height, width, device):
    """Return the rows and columns of the tiles in which an image is worked on.

    Args:
        depth (int): Values at each pixel.
        height (int): H, of the image.
        width (int): W.
        device (torch.device): Where.

    Returns:
        tuple[int, int]: Both in pixels, at least 1.
    """
    if device.type == 'cpu':
        rows = CPU_TILE_VALUES // (depth * CPU_TILE_COLUMNS)
        return min(max(rows, 1), CPU_TILE_ROWS), CPU_TILE_COLUMNS
    return min(height, max(1, DEVICE_TILE_VALUES // (depth * width))), width

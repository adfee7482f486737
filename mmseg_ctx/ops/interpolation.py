"""Linear interpolation along one side of an image, as matrices that are taken tile by tile."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

# How much is worked on at a time. On the CPU a tile stays in the cache, and few columns and rows
# keep the interpolation's matrix products small; an accelerator wants few, large kernels.
CPU_TILE_VALUES, CPU_TILE_ROWS, CPU_TILE_COLUMNS = 2**18, 128, 64
DEVICE_TILE_VALUES = 2**24
# Positions closer than this to a source pixel may be rounded to either side of it.
ROUNDING = 1e-3


class Interpolation(NamedTuple):
    """A linear map along one side: which sources each target reads, and with what weights.

    It begins as :meth:`identity`. Each other method but :meth:`tile` returns the map that is
    followed by one more step, so that a chain of steps is one matrix.

    Attributes:
        weights (Tensor): ``[source, target]``.
        first (ndarray): The first source that each target reads, ``[target]``. What a tile reads is
            known without a look at the weights, for which a device would have to be waited for.
        last (ndarray): The last one, ``[target]``.

    Example:
        >>> rows = Interpolation.identity(4, torch.zeros(())).resize(8, align_corners=False)
        >>> matrix, sources = rows.tile(0, 2)
        >>> matrix, sources
        (tensor([[1.0000, 0.0000],
                [0.7500, 0.2500]]), slice(0, 2, None))
    """

    weights: torch.Tensor
    first: np.ndarray
    last: np.ndarray

    @classmethod
    def identity(cls, length, like):
        """Return the map that leaves ``length`` values as they are.

        Args:
            length (int): Number of sources and of targets.
            like (Tensor): Whose type and device the weights have.

        Returns:
            Interpolation: The map.
        """
        index = np.arange(length)
        return cls(torch.eye(length, dtype=like.dtype, device=like.device), index, index)

    def resize(self, length, align_corners):
        """Interpolate the targets as ``torch.nn.functional.interpolate`` does.

        Args:
            length (int): New number of targets.
            align_corners (bool): As there.

        Returns:
            Interpolation: The longer chain.
        """
        weights = F.interpolate(
            self.weights[None], length, mode='linear', align_corners=align_corners
        )[0]
        current = len(self.first)
        index = np.arange(length)
        if align_corners:
            position = index * ((current - 1) / max(length - 1, 1))
        else:
            position = (index + 0.5) * (current / length) - 0.5
        lower = np.floor(position - ROUNDING).clip(0, current - 1).astype(int)
        upper = np.floor(position + ROUNDING + 1).clip(0, current - 1).astype(int)
        first = np.minimum(self.first[lower], self.first[upper])
        return Interpolation(weights, first, np.maximum(self.last[lower], self.last[upper]))

    def crop(self, start, stop):
        """Return the map to the targets from ``start`` to before ``stop``."""
        targets = slice(start, stop)
        return Interpolation(self.weights[:, targets], self.first[targets], self.last[targets])

    def flip(self):
        """Return the map to the targets in the opposite order."""
        return Interpolation(self.weights.flip(1), self.first[::-1], self.last[::-1])

    def place(self, start, length):
        """Return the map to ``length`` targets, of which these are some; the others are zero.

        Args:
            start (int): Where these begin.
            length (int): New number of targets.

        Returns:
            Interpolation: The longer chain. What reads nothing has its last source before its
            first.
        """
        around = start, length - start - len(self.first)
        return Interpolation(
            F.pad(self.weights, around),
            np.pad(self.first, around, constant_values=len(self.weights)),
            np.pad(self.last, around, constant_values=-1),
        )

    def scale(self, factors):
        """Return the map to the targets times ``factors`` ``[target]``."""
        return self._replace(weights=self.weights * factors)

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
        return self.weights[sources, targets].t(), sources


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

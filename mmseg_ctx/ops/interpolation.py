"""Linear interpolation along one side of an image, as matrices for one tile at a time."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

# Size of a tile: few rows and columns, which keep the matrices of the interpolation small, and so
# many values that a tile fits into the cache of a CPU's core or into the L2 cache of a GPU.
CPU_TILE_VALUES, CPU_TILE_ROWS, CPU_TILE_COLUMNS = 2**18, 128, 64
DEVICE_TILE_VALUES, DEVICE_TILE_COLUMNS = 2**23, 128

# Only maps of the sizes that images have at the time are used again.
_cached = lru_cache(maxsize=64)


@_cached
def _identity(size, dtype, device):
    index = torch.arange(size, device=device)[:, None]
    first = np.arange(size)
    weights = torch.ones_like(index, dtype=dtype)
    return Interpolation(size, index, weights, first, first)


@dataclass(frozen=True, eq=False)
class Interpolation:
    """A linear map along one side: each target is a weighted sum of K sources.

    :meth:`identity` makes the first map. :meth:`resize`, :meth:`crop`, :meth:`flip`, :meth:`place`
    and :meth:`scale` return the map with one more step, so that any chain of steps is one map. K is
    1 in the identity, and each :meth:`resize` doubles it. :meth:`join` makes one map of several.
    :meth:`tile` returns a matrix for some of the targets. Chains that were made before come from a
    cache, so that an image of a size that is known costs a GPU nothing.

    Attributes:
        size (int): Number of sources.
        index (Tensor): Sources of each target, ``[targets, K]``.
        weights (Tensor): Weights of these sources, ``[targets, K]``.
        first (ndarray): The first source that each target reads, ``[targets]``. It is an array on
            the host, so that :meth:`tile` need not wait for a device.
        last (ndarray): The last source that each target reads, ``[targets]``; smaller than
            ``first`` if the target reads no source.

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

    @staticmethod
    def identity(size, like):
        """Return the map that does not change values.

        Args:
            size (int): Number of sources and of targets.
            like (Tensor): A tensor with the type and device of the weights.

        Returns:
            Interpolation: The map.
        """
        # What is made of a fake tensor must not meet real ones.
        plain = type(like) in (torch.Tensor, torch.nn.Parameter)
        make = _identity if plain else _identity.__wrapped__
        return make(size, like.dtype, like.device)

    @_cached
    def resize(self, length, align_corners):
        """Resize the targets bilinearly, as ``torch.nn.functional.interpolate`` does.

        Args:
            length (int): New number of targets.
            align_corners (bool): As in ``torch.nn.functional.interpolate``.

        Returns:
            Interpolation: The map with this step added.
        """
        current = len(self.first)
        if length == current:
            return self

        # Position of a new target among the current ones, as a fraction of two integers: the
        # integer part is then exact.
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
        return replace(
            self,
            index=torch.cat([self.index[lower], self.index[upper]], 1),
            weights=torch.cat(weights, 1),
            first=np.minimum(self.first[lowest], self.first[highest]),
            last=np.maximum(self.last[lowest], self.last[highest]),
        )

    @_cached
    def crop(self, start, stop):
        """Return the map to the targets ``start`` to ``stop - 1``."""
        part = slice(start, stop)
        tensors = self.index[part], self.weights[part]
        return Interpolation(self.size, *tensors, self.first[part], self.last[part])

    @_cached
    def flip(self):
        """Return the map to the targets in reverse order."""
        tensors = self.index.flip(0), self.weights.flip(0)
        return Interpolation(self.size, *tensors, self.first[::-1], self.last[::-1])

    def place(self, start, length):
        """Pad the targets with zeros to ``length`` targets.

        Args:
            start (int): Index of the first current target among the new ones.
            length (int): New number of targets.

        Returns:
            Interpolation: The map with this step added.
        """
        around = start, length - start - len(self.first)
        return replace(
            self,
            index=F.pad(self.index, (0, 0, *around)),
            weights=F.pad(self.weights, (0, 0, *around)),
            first=np.pad(self.first, around, constant_values=self.size),
            last=np.pad(self.last, around, constant_values=-1),
        )

    def scale(self, factors):
        """Return the map to the targets multiplied by ``factors`` ``[targets]``."""
        return replace(self, weights=self.weights * factors[:, None])

    @staticmethod
    def join(sides):
        """Return the sum of several maps as one map, from their sources one after the other.

        Args:
            sides (Sequence[Interpolation]): Maps to the same targets.

        Returns:
            Interpolation: The map. Its K is the maps' K, times the largest number of maps that
            reach one target.
        """
        if len(sides) == 1:
            return sides[0]
        starts = np.cumsum([0, *(side.size for side in sides)])
        reached = np.stack([side.last >= side.first for side in sides])  # [maps, targets]
        first = [side.first + start for side, start in zip(sides, starts, strict=False)]
        last = [side.last + start for side, start in zip(sides, starts, strict=False)]
        index = torch.stack([s.index + int(k) for s, k in zip(sides, starts, strict=False)], 1)
        weights = torch.stack([side.weights for side in sides], 1)  # [targets, maps, K]
        # Maps with weights come first, so that the others can be left out.
        some = (weights != 0).any(2).long()
        order = torch.argsort(some, dim=1, descending=True, stable=True)
        order = order[:, : reached.sum(0).max(), None].expand(-1, -1, weights.size(2))
        return Interpolation(
            int(starts[-1]),
            index.gather(1, order).flatten(1),
            weights.gather(1, order).flatten(1),
            np.where(reached, first, starts[-1]).min(0),
            np.where(reached, last, -1).max(0),
        )

    def tile(self, start, length):
        """Return the matrix that computes the targets ``start`` to ``start + length - 1``.

        Args:
            start (int): Index of the first of these targets.
            length (int): Number of targets. At the end of the side there may be fewer.

        Returns:
            tuple[Tensor, slice]: A matrix ``[length, sources]``, and the slice of its sources;
            both are empty if the targets read no source.
        """
        targets = slice(start, start + length)
        first, last = int(self.first[targets].min()), int(self.last[targets].max())
        sources = slice(first, max(first, last + 1))
        weights = self.weights[targets]
        matrix = weights.new_zeros(len(weights), sources.stop - first)
        if matrix.numel():
            # An entry with the weight zero may point outside these sources.
            index = (self.index[targets] - first).clamp(0, matrix.size(1) - 1)
            matrix.scatter_add_(1, index, weights)
        return matrix, sources


def tile_size(depth, height, width, device):
    """Return the rows and columns of a tile of an image.

    Args:
        depth (int): Values at each pixel, such as classes.
        height (int): Height of the image.
        width (int): Width of the image.
        device (torch.device): Where the tile is computed.
    """
    if device.type == 'cpu':
        rows = CPU_TILE_VALUES // (depth * CPU_TILE_COLUMNS)
        return min(max(rows, 1), CPU_TILE_ROWS), CPU_TILE_COLUMNS
    columns = min(width, DEVICE_TILE_COLUMNS)
    return min(height, max(1, DEVICE_TILE_VALUES // (depth * columns))), columns

"""Swin's parts in a form whose sizes an exported graph does not fix."""

import torch
import torch.nn.functional as F
from mmseg.models.backbones import swin
from mmseg.models.utils import embed
from torch import nn


class AdaptivePadding(embed.AdaptivePadding):
    """MMSegmentation's module, which asks whether there is anything to pad."""

    def forward(self, x):
        """Return ``x`` with zeros below and on the right, so that patches cover it."""
        if self.kernel_size != self.stride or self.padding != 'corner':
            return super().forward(x)
        height, width = (
            _round_up(length, stride)
            for length, stride in zip(x.shape[2:], self.stride, strict=True)
        )
        return F.pad(x, (0, width - x.size(3), 0, height - x.size(2)))


class Unfold(nn.Unfold):
    """PyTorch's module for patches that do not overlap, which is a reordering."""

    def forward(self, input):
        """Return the patches ``[B, C * k * k, h * w]`` of ``[B, C, k * h, k * w]``."""
        size, _ = self.kernel_size
        if self.kernel_size != self.stride or self.kernel_size != (size, size):
            return super().forward(input)
        return F.pixel_unshuffle(input, size).flatten(2)


class ShiftWindowMSA(swin.ShiftWindowMSA):
    """MMSegmentation's module, whose arithmetic of sizes an exporter cannot follow."""

    def forward(self, query, hw_shape):
        """Return ``[B, H * W, C]`` for ``query`` of that shape, H and W in ``hw_shape``."""
        batch, _, channels = query.shape
        size = self.window_size
        height, width = (_round_up(length, size) for length in hw_shape)
        x = query.view(batch, *hw_shape, channels)
        x = F.pad(x, (0, 0, 0, width - hw_shape[1], 0, height - hw_shape[0]))
        x = torch.roll(x, (-self.shift_size, -self.shift_size), (1, 2))
        windows = self._windows(x).flatten(0, 2).flatten(1, 2)  # [B * windows, size², C]
        attended = self.w_msa(windows, mask=self._mask(height, width, query.device))
        x = attended.view(batch, height // size, width // size, size, size, channels)
        x = x.transpose(2, 3).reshape(batch, height, width, channels)
        x = torch.roll(x, (self.shift_size, self.shift_size), (1, 2))
        return self.drop(x[:, : hw_shape[0], : hw_shape[1]].flatten(1, 2))

    def _windows(self, x):
        """Cut ``[B, H, W, C]`` into windows, ``[B, rows, columns, size, size, C]``."""
        x = x.unflatten(2, (-1, self.window_size)).unflatten(1, (-1, self.window_size))
        return x.transpose(2, 3)

    def _mask(self, height, width, device):
        """Return ``[windows, size², size²]``: -100 where the shift brought strangers together."""
        if self.shift_size == 0:
            return None
        rows, columns = (self._regions(length, device) for length in (height, width))
        regions = 3 * rows[:, None] + columns  # [H, W]
        regions = self._windows(regions[None, ..., None]).flatten(0, 2).flatten(1)
        return -100.0 * (regions[:, None] != regions[:, :, None]).float()

    def _regions(self, length, device):
        """Return 0, 1 or 2 for each place: ahead of the last window, in it, shifted into it."""
        place = torch.arange(length, device=device)
        starts = torch.stack(
            [place >= length - self.window_size, place >= length - self.shift_size]
        )
        return starts.int().sum(dim=0)


def _round_up(length, step):
    return (length + step - 1) // step * step

"""Replacements for modules whose export to ONNX would fix the size of the images."""

import copy

import torch
import torch.nn.functional as F
from mmengine.utils import to_2tuple
from mmseg.models.backbones import swin
from mmseg.models.utils import embed, wrappers
from torch import nn

from mmseg_ctx.ops import adaptive_avg_pool2d


def exportable(model):
    """Return a copy of a model in which the modules of ``REPLACEMENTS`` are replaced.

    Args:
        model (nn.Module): The model, which does not change.

    Returns:
        nn.Module: The copy, with weights of its own.
    """
    model = copy.deepcopy(model)
    # A module with two names is replaced under both.
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if type(module) in REPLACEMENTS:
            parent, _, child = name.rpartition('.')
            setattr(model.get_submodule(parent), child, _replacement(module))
    return model


def _replacement(module):
    """Return a module's replacement, which has the same settings, weights and submodules."""
    kind = REPLACEMENTS[type(module)]
    replacement = kind.__new__(kind)
    vars(replacement).update(vars(module))
    return replacement


class AdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """PyTorch's ``AdaptiveAvgPool2d`` for maps of any size."""

    def forward(self, input):
        """Return ``[B, C, h, w]`` for ``input`` ``[B, C, H, W]``."""
        return adaptive_avg_pool2d(input, self.output_size)


class Upsample(wrappers.Upsample):
    """MMSegmentation's ``Upsample``, which would fix the size of its output."""

    def forward(self, x):
        """Return ``x``, upsampled by a factor or to a size."""
        size = self.size or [self._scaled(length) for length in x.shape[-2:]]
        return F.interpolate(x, size, mode=self.mode, align_corners=self.align_corners)

    def _scaled(self, length):
        if self.scale_factor == int(self.scale_factor):
            return length * int(self.scale_factor)
        return torch.sym_int(length * self.scale_factor)


class AdaptivePadding(embed.AdaptivePadding):
    """MMSegmentation's ``AdaptivePadding``, without its branch on whether there is a padding."""

    def forward(self, x):
        """Return ``x``, padded with zeros below and on the right to a multiple of the stride."""
        if self.kernel_size != self.stride or self.padding != 'corner':
            return super().forward(x)
        height, width = (
            _round_up(length, stride)
            for length, stride in zip(x.shape[2:], self.stride, strict=True)
        )
        return F.pad(x, (0, width - x.size(3), 0, height - x.size(2)))


class Unfold(nn.Unfold):
    """PyTorch's ``Unfold``, as a reordering where patches neither overlap nor leave gaps."""

    def forward(self, input):
        """Return the patches ``[B, C * k * k, h * w]`` of ``input`` ``[B, C, H, W]``."""
        kernel, stride, padding, dilation = map(
            to_2tuple, (self.kernel_size, self.stride, self.padding, self.dilation)
        )
        square = kernel == stride == (kernel[0], kernel[0])
        if not square or padding != (0, 0) or dilation != (1, 1):
            return super().forward(input)
        return F.pixel_unshuffle(input, kernel[0]).flatten(2)


class ShiftWindowMSA(swin.ShiftWindowMSA):
    """Swin's attention in windows, whose sizes the exporter can compute from the image's size."""

    def forward(self, query, hw_shape):
        """Return ``[B, H * W, C]`` for ``query`` of the same shape; ``hw_shape`` has H and W."""
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
        """Return None without a shift, or -100 where it made neighbours, ``[windows, n, n]``."""
        if self.shift_size == 0:
            return None
        rows, columns = (self._regions(length, device) for length in (height, width))
        regions = 3 * rows[:, None] + columns  # [H, W]
        regions = self._windows(regions[None, ..., None]).flatten(0, 2).flatten(1)
        return -100.0 * (regions[:, None] != regions[:, :, None]).float()

    def _regions(self, length, device):
        """Return, for each position: 0 before the last window, 1 in it, 2 if shifted into it."""
        position = torch.arange(length, device=device)
        starts = torch.stack(
            [position >= length - self.window_size, position >= length - self.shift_size]
        )
        return starts.int().sum(dim=0)


def _round_up(length, step):
    return (length + step - 1) // step * step


REPLACEMENTS = {
    nn.AdaptiveAvgPool2d: AdaptiveAvgPool2d,
    nn.Unfold: Unfold,
    wrappers.Upsample: Upsample,
    embed.AdaptivePadding: AdaptivePadding,
    swin.ShiftWindowMSA: ShiftWindowMSA,
}

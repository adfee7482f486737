"""Replacements for what modules compute whose export to ONNX would fix the size of the images."""

import copy
from types import MethodType

import torch
import torch.nn.functional as F
from mmengine.utils import to_2tuple
from mmseg.models.backbones import swin
from mmseg.models.utils import embed, wrappers
from torch import nn

from mmseg_ctx.ops import adaptive_avg_pool2d


def exportable(model):
    """Return a copy of a model in which ``FORWARDS`` replace the ``forward`` of some modules.

    Args:
        model (nn.Module): The model, which does not change.

    Returns:
        nn.Module: The copy, with weights of its own.
    """
    model = copy.deepcopy(model)
    for module in model.modules():
        if type(module) in FORWARDS:
            module.forward = MethodType(FORWARDS[type(module)], module)
    return model


def adaptive_pooling(self, input):
    """Pool ``[B, C, H, W]`` of any size to ``[B, C, h, w]``."""
    return adaptive_avg_pool2d(input, self.output_size)


def upsample(self, x):
    """Upsample ``x`` by a factor or to a size, as MMSegmentation, which would fix the size."""
    size = self.size
    if not size and self.scale_factor == int(self.scale_factor):
        size = [length * int(self.scale_factor) for length in x.shape[-2:]]
    elif not size:
        size = [torch.sym_int(length * self.scale_factor) for length in x.shape[-2:]]
    return F.interpolate(x, size, mode=self.mode, align_corners=self.align_corners)


def pad(self, x):
    """Pad ``x`` to a multiple of the stride, without a branch on whether there is a padding."""
    if self.kernel_size != self.stride or self.padding != 'corner':
        return embed.AdaptivePadding.forward(self, x)
    height, width = map(_round_up, x.shape[2:], self.stride)
    return F.pad(x, (0, width - x.size(3), 0, height - x.size(2)))


def unfold(self, input):
    """Return patches ``[B, C * k * k, h * w]``, by reordering if none overlap or leave gaps."""
    options = self.kernel_size, self.stride, self.padding, self.dilation
    kernel, stride, padding, dilation = map(to_2tuple, options)
    square = kernel == stride == (kernel[0], kernel[0])
    if not square or padding != (0, 0) or dilation != (1, 1):
        return nn.Unfold.forward(self, input)
    return F.pixel_unshuffle(input, kernel[0]).flatten(2)


def attend_in_windows(self, query, hw_shape):
    """Return ``[B, H * W, C]`` for ``query`` of the same shape; ``hw_shape`` has H and W.

    As Swin's ``ShiftWindowMSA``, but the exporter can compute the windows from the image's size.
    """
    batch, _, channels = query.shape
    size, shift = self.window_size, self.shift_size
    height, width = (_round_up(length, size) for length in hw_shape)
    x = query.view(batch, *hw_shape, channels)
    x = F.pad(x, (0, 0, 0, width - hw_shape[1], 0, height - hw_shape[0]))
    x = torch.roll(x, (-shift, -shift), (1, 2))
    windows = _windows(x, size).flatten(0, 2).flatten(1, 2)  # [B * windows, size², C]
    attended = self.w_msa(windows, mask=_shift_mask(height, width, size, shift, query.device))
    x = attended.view(batch, height // size, width // size, size, size, channels)
    x = x.transpose(2, 3).reshape(batch, height, width, channels)
    x = torch.roll(x, (shift, shift), (1, 2))
    return self.drop(x[:, : hw_shape[0], : hw_shape[1]].flatten(1, 2))


def _windows(x, size):
    """Cut ``[B, H, W, C]`` into windows, ``[B, rows, columns, size, size, C]``."""
    return x.unflatten(2, (-1, size)).unflatten(1, (-1, size)).transpose(2, 3)


def _shift_mask(height, width, size, shift, device):
    """Return None without a shift, or -100 where it made neighbours, ``[windows, n, n]``."""
    if shift == 0:
        return None

    def regions(length):
        """Return, for each position: 0 before the last window, 1 in it, 2 if shifted into it."""
        position = torch.arange(length, device=device)
        return (position >= length - size).int() + (position >= length - shift).int()

    both = 3 * regions(height)[:, None] + regions(width)  # [H, W]
    both = _windows(both[None, ..., None], size).flatten(0, 2).flatten(1)
    return -100.0 * (both[:, None] != both[:, :, None]).float()


def _round_up(length, step):
    return (length + step - 1) // step * step


FORWARDS = {
    nn.AdaptiveAvgPool2d: adaptive_pooling,
    nn.Unfold: unfold,
    wrappers.Upsample: upsample,
    embed.AdaptivePadding: pad,
    swin.ShiftWindowMSA: attend_in_windows,
}

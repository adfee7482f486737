"""Adaptive Context Network (ACNet).

Fu, Liu, Wang, Li, Bao, Tang, Lu: Adaptive Context Network for Scene Parsing, ICCV 2019,
https://arxiv.org/abs/1911.01664.

A pixel whose features are close to the globally pooled feature probably belongs to something large,
and gets global context. A pixel that is far from it probably belongs to a detail, and gets the
features of a finer stage. Blocks that do both are applied from the coarsest stage to the finest.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from mmcv.cnn import ConvModule
from mmseg.registry import MODELS
from torch import nn

from mmseg_ctx.heads.base import ContextHead, resize_like
from mmseg_ctx.ops import at_least_float32, autocast_off
from mmseg_ctx.utils.arguments import Positive, PositiveInt, validate_arguments
from mmseg_ctx.utils.recording import show


class GlobalContextModule(nn.Module):
    """GCM: add the global feature to each pixel, weighted by their similarity (Section 3.2).

    Distances and gate are computed in float32 or wider: float16 cannot hold the squares of large
    features, and the gate depends on small differences between distances, of about δ.

    Args:
        channels (int): C, channels of the features.
        delta (float): δ, the distance at which the gate has fallen to 1/e. Default: 5.0.

    Example:
        >>> context, gate = GlobalContextModule(8)(torch.rand(2, 8, 16, 16))
        >>> context.shape, gate.shape
        (torch.Size([2, 8, 16, 16]), torch.Size([2, 1, 16, 16]))
    """

    def __init__(self, channels, delta=5.0):
        super().__init__()
        self.delta = delta
        self.project = nn.Conv2d(channels, channels, 1)
        self.alpha = nn.Parameter(torch.ones(1))  # FSDP shards no scalars

    def forward(self, x):
        """Return the features with global context, and the gate.

        Args:
            x (Tensor): A ``[B, C, h, w]``.

        Returns:
            tuple[Tensor]: C ``[B, C, h, w]``, and w ``[B, 1, h, w]`` in (0, 1]. The pixel of each
            image that is nearest to the global feature has the gate 1.
        """
        with autocast_off(x):
            features = at_least_float32(x)  # A
            pooled = features.mean((2, 3), keepdim=True)  # [B, C, 1, 1]
            p = self.project(pooled.to(self.project.weight.dtype))  # [B, C, 1, 1]
            # Where a pixel equals the global feature, this norm's gradient is zero, not infinite.
            distance = torch.linalg.vector_norm(features - p, dim=1, keepdim=True)  # Eq. 1
            nearest = distance.amin((2, 3), keepdim=True)  # [B, 1, 1, 1]
            gate = torch.exp((nearest - distance) / self.delta)  # [B, 1, h, w], Eq. 2
            # The gate of a distant pixel would underflow to zero.
            gate = gate.clamp(min=torch.finfo(gate.dtype).tiny)
            show(self, gate=gate)
            context = features + self.alpha * p * gate  # Eq. 3
        return context.to(x.dtype), gate


class LocalContextModule(nn.Module):
    """LCM: fuse a finer stage's features into the pixels whose global gate is low (Section 3.3).

    Args:
        channels (int): Channels of the upsampled features E.
        local_channels (int): Channels of the local features B.
        out_channels (int): Channels of the result.
        num_fusions (int): How many times the gated local features are concatenated and convolved
            (Table 2). Default: 3.
        align_corners (bool): ``align_corners`` of the gate's upsampling. Default: False.
        **layers: ``conv_cfg``, ``norm_cfg`` and ``act_cfg`` of ``ConvModule``.
    """

    def __init__(
        self, channels, local_channels, out_channels, num_fusions=3, align_corners=False, **layers
    ):
        super().__init__()
        widths = [channels] + [out_channels] * (num_fusions - 1)
        self.fusions = nn.ModuleList(
            ConvModule(local_channels + width, out_channels, 3, padding=1, **layers)
            for width in widths
        )
        self.beta = nn.Parameter(torch.ones(1))
        self.align_corners = align_corners

    def forward(self, x, local, gate):
        """Return F ``[B, out_channels, h, w]``.

        Args:
            x (Tensor): E ``[B, channels, h, w]``, upsampled features with global context.
            local (Tensor): B ``[B, local_channels, h, w]``, features of a finer stage.
            gate (Tensor): w ``[B, 1, h', w']``, the gate of the global context, of any size.
        """
        gate = resize_like(gate, local, self.align_corners)
        local_gate = (1 - gate).to(local.dtype)  # [B, 1, h, w], Eq. 4
        show(self, local_gate=local_gate)
        gated = self.beta * local_gate * local  # [B, local_channels, h, w]
        for fusion in self.fusions:
            x = fusion(torch.cat([gated, x], dim=1))  # [B, out_channels, h, w], Eq. 5
        return x


class AdaptiveContextBlock(nn.Module):
    """Global context, upsampling to the next finer stage, local context (Section 3.4).

    Args:
        channels (int): Channels of the coarse features.
        backbone_channels (int): Channels of the backbone's finer features.
        local_channels (int): Channels of those finer features after a convolution reduced them.
        out_channels (int): Channels of the result.
        delta (float): See :class:`GlobalContextModule`. Default: 5.0.
        num_fusions (int): See :class:`LocalContextModule`. Default: 3.
        align_corners (bool): ``align_corners`` of both upsamplings. Default: False.
        **layers: ``conv_cfg``, ``norm_cfg`` and ``act_cfg`` of ``ConvModule``.
    """

    def __init__(
        self,
        channels,
        backbone_channels,
        local_channels,
        out_channels,
        delta=5.0,
        num_fusions=3,
        align_corners=False,
        **layers,
    ):
        super().__init__()
        self.align_corners = align_corners
        self.global_context = GlobalContextModule(channels, delta)
        self.reduce = ConvModule(backbone_channels, local_channels, 3, padding=1, **layers)
        self.local_context = LocalContextModule(
            channels, local_channels, out_channels, num_fusions, align_corners, **layers
        )

    def forward(self, x, feature):
        """Return ``[B, out_channels, h, w]``.

        Args:
            x (Tensor): Coarse features ``[B, channels, h', w']``.
            feature (Tensor): The backbone's finer features ``[B, backbone_channels, h, w]``.
        """
        x, gate = self.global_context(x)
        local = self.reduce(feature)  # [B, local_channels, h, w]
        x = resize_like(x, local, self.align_corners)  # [B, channels, h, w]
        return self.local_context(x, local, gate)


@MODELS.register_module()
class AdaptiveContextHead(ContextHead):
    """Decode head of ACNet: adaptive context blocks from the coarsest stage to the finest.

    The head reads ``len(block_channels)`` stages of the backbone, of any sizes. The first entry of
    ``block_channels`` is the width of the coarsest stage after the input convolution. Each further
    entry adds a block of a global and a local context module, which reads the next finer stage.
    ``last_global_context`` adds the paper's last block, a global context module alone (Section
    4.2).

    The default is #3 of the paper's Table 3: two finer stages and the last block. #1 and #2 have
    one and two finer stages and no last block. In Table 2, GCM has no finer stage, and LCM(n) is #1
    with ``num_local_fusions=n``; so LCM(3) and #1 are the same model.

    Args:
        in_channels (Sequence[int]): Channels of the stages, finest first.
        channels (int | None): Width of the classifier's input, which must be the last of
            ``block_channels``; None for that value. Default: None.
        delta (float): δ of Eq. 2. Default: 5.0.
        block_channels (Sequence[int]): Width after the input convolution and after each block that
            reads a finer stage. Default: ``(512, 448, 256)``.
        local_channels (int | Sequence[int] | None): Width of the finer stages after reduction: one
            for all blocks, or one for each block that reads a finer stage; None for the width of
            that block's input. Default: None.
        num_local_fusions (int): How many times a block fuses the local features. Default: 3.
        last_global_context (bool): Whether a global context module alone is the last block.
            Default: True.
        input_transform (str): Only ``'multiple_select'``. Default: ``'multiple_select'``.
        **kwargs: Arguments of ``BaseDecodeHead``, such as ``num_classes``, and ``in_index`` with
            an entry for each of ``in_channels``.

    Raises:
        ValueError: ``in_channels``, ``channels`` or ``local_channels`` contradicts
            ``block_channels``.

    Example:
        >>> head = AdaptiveContextHead(
        ...     (8, 16, 64), in_index=(0, 1, 3), block_channels=(32, 24, 16), num_classes=5)
        >>> sizes = (8, 32), (16, 16), (32, 8), (64, 8)
        >>> head([torch.rand(2, channels, size, size) for channels, size in sizes]).shape
        torch.Size([2, 5, 32, 32])
    """

    @validate_arguments
    def __init__(
        self,
        in_channels: Sequence[PositiveInt],
        channels: PositiveInt | None = None,
        *,
        delta: Positive = 5.0,
        block_channels: Sequence[PositiveInt] = (512, 448, 256),
        local_channels: PositiveInt | Sequence[PositiveInt] | None = None,
        num_local_fusions: PositiveInt = 3,
        last_global_context: bool = True,
        input_transform: Literal['multiple_select'] = 'multiple_select',
        **kwargs,
    ):
        channels = block_channels[-1] if channels is None else channels
        if channels != block_channels[-1]:
            raise ValueError(
                f'channels must be the last of block_channels={block_channels!r}, got {channels!r}'
            )
        local_channels = _local_widths(in_channels, block_channels, local_channels)
        super().__init__(in_channels, channels, input_transform=input_transform, **kwargs)
        *finer_channels, coarse_channels = in_channels
        self.reduce = ConvModule(coarse_channels, block_channels[0], 3, padding=1, **self.layers)
        widths = block_channels[:-1], reversed(finer_channels), local_channels, block_channels[1:]
        options = dict(align_corners=self.align_corners, **self.layers)
        self.blocks = nn.ModuleList(
            AdaptiveContextBlock(*each, delta, num_local_fusions, **options)
            for each in zip(*widths, strict=True)
        )
        self.global_context = GlobalContextModule(channels, delta) if last_global_context else None

    def forward(self, inputs):
        """Return the logits ``[B, N, h, w]``, at the size of the finest stage that is read."""
        *finer, x = self._transform_inputs(inputs)
        x = self.reduce(x)
        for block, feature in zip(self.blocks, reversed(finer), strict=True):
            x = block(x, feature)  # [B, next width, h, w] of feature
        if self.global_context is not None:
            x, _ = self.global_context(x)
        return self.cls_seg(x)


def _local_widths(in_channels, block_channels, local_channels):
    """Return ``local_channels`` as one width for each block that reads a finer stage."""
    blocks = len(block_channels) - 1
    if local_channels is None:
        local_channels = block_channels[:-1]
    elif isinstance(local_channels, int):
        local_channels = [local_channels] * blocks
    for name, widths, number in (
        ('in_channels', in_channels, blocks + 1),
        ('local_channels', local_channels, blocks),
    ):
        if len(widths) != number:
            raise ValueError(
                f'{name} must have {number} entries for block_channels={block_channels!r}, '
                f'got {widths!r}'
            )
    return local_channels

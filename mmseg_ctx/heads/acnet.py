"""Adaptive Context Network (ACNet).

Fu, Liu, Wang, Li, Bao, Tang, Lu: Adaptive Context Network for Scene Parsing, ICCV 2019,
https://arxiv.org/abs/1911.01664.

A place whose features resemble the globally pooled one is likely part of something large and is
given global context; a place unlike it is likely a detail and is given a finer stage's features
instead. Blocks that weigh the two against each other lead from the coarsest stage to the finest.
"""

import torch
from mmcv.cnn import ConvModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from torch import nn

from mmseg_ctx.ops import at_least_float32, autocast_off
from mmseg_ctx.utils.arguments import (
    check_bool,
    check_decode_head,
    check_features,
    check_int,
    check_ints,
    check_norm_inputs,
    check_number,
    is_int,
)


class GlobalContextModule(nn.Module):
    """GCM: add the global feature to each place as much as the place resembles it (Section 3.2).

    Distances and gate are computed in float32 at least: the squares of large features exceed
    float16, and the gate turns on differences of about δ.

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
        self.delta = check_number('delta', delta, exclusive=True)
        self.project = nn.Conv2d(check_int('channels', channels), channels, 1)
        self.alpha = nn.Parameter(torch.ones(()))

    def forward(self, x):
        """Return C, of the shape of ``x`` ``[B, C, h, w]``, and the gate w ``[B, 1, h, w]``.

        The gate is in (0, 1], with 1 at each image's place that is nearest to the global feature.
        """
        with autocast_off(x):
            features = at_least_float32(x)  # A
            pooled = features.mean((2, 3), keepdim=True)  # [B, C, 1, 1]
            p = self.project(pooled.to(self.project.weight.dtype))  # [B, C, 1, 1]
            gate = self._gate(features, p)  # [B, 1, h, w]
            context = features + self.alpha * p * gate  # Eq. 3
        return context.to(x.dtype), gate

    def _gate(self, features, p):
        # The norm's gradient is zero, and not infinite, where its argument is.
        distance = torch.linalg.vector_norm(features - p, dim=1, keepdim=True)  # Eq. 1
        nearest = distance.amin((2, 3), keepdim=True)  # [B, 1, 1, 1]
        gate = torch.exp((nearest - distance) / self.delta)  # Eq. 2
        # A far place's gate would round to zero.
        return gate.clamp(min=torch.finfo(gate.dtype).tiny)


class LocalContextModule(nn.Module):
    """LCM: fuse a finer stage's features where the global context is not wanted (Section 3.3).

    Args:
        channels (int): Channels of the upsampled features E.
        local_channels (int): Channels of the local features B.
        out_channels (int): Channels of the result.
        num_fusions (int): How many times the gated local features are concatenated and convolved
            (Table 2). Default: 3.
        conv_cfg (dict | None): Convolution layers, None for ``nn.Conv2d``. Default: None.
        norm_cfg (dict | None): Normalization layers, None for none. Default: None.
        act_cfg (dict): Activation layers. Default: ``dict(type='ReLU')``.
        align_corners (bool): Of the gate's upsampling. Default: False.
    """

    def __init__(
        self,
        channels,
        local_channels,
        out_channels,
        num_fusions=3,
        conv_cfg=None,
        norm_cfg=None,
        act_cfg=dict(type='ReLU'),
        align_corners=False,
    ):
        super().__init__()
        layers = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        widths = [channels] + [out_channels] * (check_int('num_fusions', num_fusions) - 1)
        self.fusions = nn.ModuleList(
            ConvModule(local_channels + width, out_channels, 3, padding=1, **layers)
            for width in widths
        )
        self.beta = nn.Parameter(torch.ones(()))
        self.align_corners = align_corners

    def forward(self, x, local, gate):
        """Return F ``[B, out_channels, h, w]``.

        Args:
            x (Tensor): E ``[B, channels, h, w]``, upsampled features with global context.
            local (Tensor): B ``[B, local_channels, h, w]``, features of a finer stage.
            gate (Tensor): The global context's gate ``[B, 1, h', w']`` of any size.
        """
        gate = _upsample(gate, local, self.align_corners)
        local_gate = (1 - gate).to(local.dtype)  # [B, 1, h, w], Eq. 4
        gated = self.beta * local_gate * local  # [B, local_channels, h, w]
        for fusion in self.fusions:
            x = fusion(torch.cat([gated, x], dim=1))  # [B, out_channels, h, w], Eq. 5
        return x


class AdaptiveContextBlock(nn.Module):
    """Global context, upsampling, local context: one step from coarse to fine (Section 3.4).

    Args:
        channels (int): Channels of the coarse features.
        backbone_channels (int): Channels of the backbone's finer features.
        local_channels (int): Channels that these are reduced to.
        out_channels (int): Channels of the result.
        delta (float): See :class:`GlobalContextModule`. Default: 5.0.
        num_fusions (int): See :class:`LocalContextModule`. Default: 3.
        conv_cfg (dict | None): Convolution layers, None for ``nn.Conv2d``. Default: None.
        norm_cfg (dict | None): Normalization layers, None for none. Default: None.
        act_cfg (dict): Activation layers. Default: ``dict(type='ReLU')``.
        align_corners (bool): Of the upsampling. Default: False.
    """

    def __init__(
        self,
        channels,
        backbone_channels,
        local_channels,
        out_channels,
        delta=5.0,
        num_fusions=3,
        conv_cfg=None,
        norm_cfg=None,
        act_cfg=dict(type='ReLU'),
        align_corners=False,
    ):
        super().__init__()
        layers = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.align_corners = align_corners
        self.global_context = GlobalContextModule(channels, delta)
        self.reduce = ConvModule(backbone_channels, local_channels, 3, padding=1, **layers)
        self.local_context = LocalContextModule(
            channels,
            local_channels,
            out_channels,
            num_fusions,
            align_corners=align_corners,
            **layers,
        )

    def forward(self, x, feature):
        """Return ``[B, out_channels, h, w]``.

        Args:
            x (Tensor): Coarse features ``[B, channels, h', w']``.
            feature (Tensor): The backbone's finer features ``[B, backbone_channels, h, w]``.
        """
        x, gate = self.global_context(x)
        local = self.reduce(feature)  # [B, local_channels, h, w]
        x = _upsample(x, local, self.align_corners)  # [B, channels, h, w]
        return self.local_context(x, local, gate)


@MODELS.register_module()
class AdaptiveContextHead(BaseDecodeHead):
    """Decode head of ACNet: adaptive context blocks from the coarsest stage to the finest.

    It reads as many of the encoder's stages as ``block_channels`` has entries, each of any size.
    Every entry but the first stands for a block of a global and a local context module, which reads
    one of the finer stages, the coarsest of them first; ``last_global_context`` adds the paper's
    last block, a global context module alone (Section 4.2). Of Table 3, #1 and #2 are one and two
    finer stages without it, and #3, the default, two with it. Of Table 2, GCM is no finer stage and
    LCM(n) is #1 with ``num_local_fusions=n``, so that LCM(3) and #1 are one model.

    Args:
        in_channels (Sequence[int]): Channels of the stages, finest first.
        channels (int | None): Width of the classifier's input: the last of ``block_channels``,
            and so by default. Default: None.
        delta (float): δ of Eq. 2. Default: 5.0.
        block_channels (Sequence[int]): Width after the input convolution and after each block that
            reads a finer stage. Default: ``(512, 448, 256)``.
        local_channels (int | Sequence[int] | None): Width that the finer stages are reduced to, one
            for all or one for each of the blocks that read them; None for the width of the block's
            input. Default: None.
        num_local_fusions (int): How many times a block fuses the local features. Default: 3.
        last_global_context (bool): Whether a global context module alone is the last block.
            Default: True.
        input_transform (str): Only ``'multiple_select'``. Default: ``'multiple_select'``.
        **kwargs: Arguments of ``BaseDecodeHead``; ``num_classes`` and ``in_index``, with an entry
            for each of ``in_channels``, are among them.

    Raises:
        ValueError: The arguments do not fit each other.

    Example:
        >>> head = AdaptiveContextHead(
        ...     (8, 16, 64), in_index=(0, 1, 3), block_channels=(32, 24, 16), num_classes=5)
        >>> sizes = (8, 32), (16, 16), (32, 8), (64, 8)
        >>> head([torch.rand(2, channels, size, size) for channels, size in sizes]).shape
        torch.Size([2, 5, 32, 32])
    """

    def __init__(
        self,
        in_channels,
        channels=None,
        *,
        delta=5.0,
        block_channels=(512, 448, 256),
        local_channels=None,
        num_local_fusions=3,
        last_global_context=True,
        input_transform='multiple_select',
        **kwargs,
    ):
        block_channels = check_ints('block_channels', block_channels)
        channels = block_channels[-1] if channels is None else channels
        check_decode_head(in_channels, channels, input_transform=input_transform, **kwargs)
        local_channels = _check_widths(
            in_channels, channels, block_channels, local_channels, input_transform
        )
        check_int('num_local_fusions', num_local_fusions)
        super().__init__(in_channels, channels, input_transform=input_transform, **kwargs)
        layers = dict(conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg)
        *finer_channels, coarse_channels = in_channels
        self.reduce = ConvModule(coarse_channels, block_channels[0], 3, padding=1, **layers)
        steps = zip(
            block_channels[:-1],
            reversed(finer_channels),
            local_channels,
            block_channels[1:],
            strict=True,
        )
        self.blocks = nn.ModuleList(
            AdaptiveContextBlock(
                *widths, delta, num_local_fusions, align_corners=self.align_corners, **layers
            )
            for widths in steps
        )
        last = check_bool('last_global_context', last_global_context)
        self.global_context = GlobalContextModule(channels, delta) if last else None

    def forward(self, inputs):
        """Return the logits ``[B, N, h, w]`` for the backbone's outputs, h×w the finest's size."""
        check_features(inputs, self.in_index, self.in_channels)
        *finer, x = self._transform_inputs(inputs)
        check_norm_inputs(self, *finer, x)
        x = self.reduce(x)
        for block, feature in zip(self.blocks, reversed(finer), strict=True):
            x = block(x, feature)  # of the size of feature
        if self.global_context is not None:
            x, _ = self.global_context(x)
        return self.cls_seg(x)


def _upsample(x, like, align_corners):
    """Return ``x`` ``[B, C, h', w']`` in the size of ``like``."""
    # A warning about sizes would break a compiled graph.
    return resize(
        x, like.shape[2:], mode='bilinear', align_corners=align_corners, warning=False
    )  # [B, C, h, w]


def _check_widths(in_channels, channels, block_channels, local_channels, input_transform):
    """Return the width of the reduced finer stage of each block that reads one."""
    if input_transform != 'multiple_select':
        raise ValueError(
            "input_transform must be 'multiple_select', since the head reads stages of several "
            f'sizes, got {input_transform!r}'
        )
    if len(in_channels) != len(block_channels):
        raise ValueError(
            f'in_channels must have as many entries as block_channels={block_channels!r}, '
            f'got {in_channels!r}'
        )
    if channels != block_channels[-1]:
        raise ValueError(
            f'channels must be the last of block_channels={block_channels!r}, got {channels!r}'
        )
    if local_channels is None:
        return block_channels[:-1]
    if is_int(local_channels):
        return (check_int('local_channels', local_channels),) * (len(block_channels) - 1)
    local_channels = check_ints('local_channels', local_channels)
    if len(local_channels) != len(block_channels) - 1:
        raise ValueError(
            f'local_channels must have one entry less than block_channels={block_channels!r}, '
            f'got {local_channels!r}'
        )
    return local_channels

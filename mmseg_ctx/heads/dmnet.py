"""Dynamic Multi-scale Network (DMNet).

He, Deng, Qiao: Dynamic Multi-Scale Filters for Semantic Segmentation, ICCV 2019.

The head has parallel branches, one for each filter size k. A branch pools the feature map to k×k
regions, makes a k×k depthwise filter for every channel from them, and convolves the reduced
features with it. So each image has filters of its own.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from mmcv.cnn import ConvModule, build_activation_layer, build_norm_layer
from mmseg.registry import MODELS
from torch import nn

from mmseg_ctx.heads.base import ContextHead, check_features
from mmseg_ctx.ops import adaptive_avg_pool2d, dynamic_depthwise_conv2d
from mmseg_ctx.utils.arguments import PositiveInt, validate_arguments
from mmseg_ctx.utils.recording import show


class _ScaleModule(nn.Module):
    """The layers before and after the filters, which all branches have (Section 3.2).

    The layers have the names that they have in MMSegmentation's ``DCM``, so its weights load.
    """

    def __init__(self, in_channels, channels, fusion=False, **layers):
        super().__init__()
        norm_cfg, act_cfg = layers.get('norm_cfg'), layers.get('act_cfg', dict(type='ReLU'))
        self.input_redu_conv = ConvModule(in_channels, channels, 1, **layers)
        self.norm = nn.Identity() if norm_cfg is None else build_norm_layer(norm_cfg, channels)[1]
        self.activate = nn.Identity() if act_cfg is None else build_activation_layer(act_cfg)
        self.fusion_conv = ConvModule(channels, channels, 1, **layers) if fusion else nn.Identity()

    def fuse(self, filtered):
        """Turn the filtered features h_k ``[B, C, h, w]`` into the branch's output O_k."""
        response = self.activate(self.norm(filtered))
        show(self, response=response)
        return self.fusion_conv(response)


class DynamicConvolutionalModule(_ScaleModule):
    """DCM: filter the features with depthwise filters made from the image's own context (Eq. 1).

    Args:
        filter_size (int): k, side of the filters and of the grid of regions they are made from.
        in_channels (int): Channels of the features.
        channels (int): C, width of the reduced features.
        context_channels (int | None): Channels of the features that the filters are made from;
            None where these are also the features to filter. Default: None.
        fusion (bool): Whether a 1×1 convolution mixes the channels afterwards. Default: False.
        **layers: ``conv_cfg``, ``norm_cfg`` and ``act_cfg`` of ``ConvModule``.
    """

    def __init__(
        self, filter_size, in_channels, channels, context_channels=None, fusion=False, **layers
    ):
        super().__init__(in_channels, channels, fusion, **layers)
        self.filter_size = filter_size
        self.filter_gen_conv = nn.Conv2d(context_channels or in_channels, channels, 1)

    def generate_filters(self, context):
        """Return g_k, the filters ``[B, C, k, k]`` made from ``context`` ``[B, C', h', w']``."""
        return self.filter_gen_conv(adaptive_avg_pool2d(context, self.filter_size))

    def forward(self, x, context):
        """Return O_k ``[B, C, h, w]`` for features ``x`` ``[B, in_channels, h, w]``."""
        filters = self.generate_filters(context)  # [B, C, k, k]
        show(self, filters=filters)
        return self.fuse(dynamic_depthwise_conv2d(self.input_redu_conv(x), filters))


class FixedConvolutionalModule(_ScaleModule):
    """Filter the features with learned filters, the same for all images (Tables 1 and 2).

    Args:
        filter_size (int): k, side of the filters.
        in_channels (int): Channels of the features.
        channels (int): C, width of the reduced features.
        depthwise (bool): Whether each filter reads one channel, or all. Default: True.
        dilation (int): Distance between the taps of a filter. Default: 1.
        fusion (bool): Whether a 1×1 convolution mixes the channels afterwards. Default: False.
        **layers: ``conv_cfg``, ``norm_cfg`` and ``act_cfg`` of ``ConvModule``.
    """

    def __init__(
        self, filter_size, in_channels, channels, depthwise=True, dilation=1, fusion=False, **layers
    ):
        super().__init__(in_channels, channels, fusion, **layers)
        options = dict(padding='same', dilation=dilation, groups=channels if depthwise else 1)
        self.filter_conv = nn.Conv2d(channels, channels, filter_size, **options)

    def forward(self, x, context):
        """Return O_k ``[B, C, h, w]`` for features ``x``; ``context`` is not used."""
        show(self, filters=self.filter_conv.weight)
        return self.fuse(self.filter_conv(self.input_redu_conv(x)))


@MODELS.register_module()
class DynamicMultiScaleHead(ContextHead):
    """Decode head of DMNet: branches of several filter sizes, merged by a 3×3 convolution.

    With the default ``filter_type``, the head computes what MMSegmentation's ``DMHead`` computes,
    and loads its weights. It takes any memory format.

    Args:
        in_channels (int): Channels of the features.
        channels (int): Width of the branches and of the classifier's input.
        filter_sizes (Sequence[int]): k of each branch. Default: ``(1, 3, 5, 7)``.
        fusion (bool): Whether each branch ends in a 1×1 convolution. Default: False.
        filter_type (str): ``'dynamic'``, the paper's method; or the fixed filters of its Table 1:
            ``'depthwise'``, which read one channel each, or ``'regular'``, which read all.
            Default: ``'dynamic'``.
        dilations (Sequence[int] | None): Dilation of each branch's fixed filters (Table 2); None
            for 1 everywhere. Dynamic filters accept only None. Default: None.
        context_index (int | None): Index of the backbone's output that the filters are made from
            (Table 4); None for the features that are filtered. Default: None.
        context_channels (int | None): Channels of that output; required with ``context_index``.
            Default: None.
        input_transform (str | None): ``'resize_concat'`` to read several outputs of the backbone,
            concatenated to one map. Default: None.
        **kwargs: Arguments of ``BaseDecodeHead``, such as ``num_classes``.

    Raises:
        ValueError: ``dilations`` or ``context_index`` contradicts ``filter_type``.

    Example:
        >>> head = DynamicMultiScaleHead(64, 32, num_classes=5)
        >>> head([torch.rand(2, 64, 16, 16)]).shape
        torch.Size([2, 5, 16, 16])
    """

    @validate_arguments
    def __init__(
        self,
        in_channels: PositiveInt | Sequence[PositiveInt],
        channels: PositiveInt,
        *,
        filter_sizes: Sequence[PositiveInt] = (1, 3, 5, 7),
        fusion: bool = False,
        filter_type: Literal['dynamic', 'depthwise', 'regular'] = 'dynamic',
        dilations: Sequence[PositiveInt] | None = None,
        context_index: int | None = None,
        context_channels: PositiveInt | None = None,
        input_transform: Literal['resize_concat'] | None = None,
        **kwargs,
    ):
        dynamic = filter_type == 'dynamic'
        if dynamic and dilations is not None:
            raise ValueError(f'dilations must be None for dynamic filters, got {dilations!r}')
        if dilations is not None and len(dilations) != len(filter_sizes):
            raise ValueError(f'dilations must have {len(filter_sizes)} entries, got {dilations!r}')
        if not dynamic and context_index is not None:
            raise ValueError(f'context_index must be None for fixed filters, got {context_index}')
        if (context_index is None) != (context_channels is None):
            both = f'{context_index!r} and {context_channels!r}'
            raise ValueError(f'context_index and context_channels must come together, got {both}')
        super().__init__(in_channels, channels, input_transform=input_transform, **kwargs)
        self.filter_type = filter_type
        self.context_index, self.context_channels = context_index, context_channels
        common = dict(in_channels=self.in_channels, channels=channels, fusion=fusion, **self.layers)
        if dynamic:
            branches = [
                DynamicConvolutionalModule(size, context_channels=context_channels, **common)
                for size in filter_sizes
            ]
        else:
            common['depthwise'] = filter_type == 'depthwise'
            dilations = dilations or [1] * len(filter_sizes)
            branches = [
                FixedConvolutionalModule(size, dilation=dilation, **common)
                for size, dilation in zip(filter_sizes, dilations, strict=True)
            ]
        self.dcm_modules = nn.ModuleList(branches)
        width = self.in_channels + len(filter_sizes) * channels
        self.bottleneck = ConvModule(width, channels, 3, padding=1, **self.layers)

    def forward(self, inputs):
        """Return the logits ``[B, N, h, w]`` for the backbone's outputs."""
        x = context = self._transform_inputs(inputs)  # [B, in_channels, h, w]
        if self.context_index is not None:
            check_features(inputs, self.context_index, self.context_channels, prefix='context')
            context = inputs[self.context_index]
        scales = [branch(x, context) for branch in self.dcm_modules]  # each [B, C, h, w]
        scales = torch.cat([x, *scales], dim=1)  # reuses the name, so that the parts are freed
        return self.cls_seg(self.bottleneck(scales))

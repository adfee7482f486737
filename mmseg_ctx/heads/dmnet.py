"""Dynamic Multi-scale Network (DMNet).

He, Deng, Qiao: Dynamic Multi-Scale Filters for Semantic Segmentation, ICCV 2019.

The head has parallel branches, one for each filter size k. A branch pools the feature map to k×k
regions, makes a k×k depthwise filter for every channel from them, and convolves the reduced
features with it. So each image has filters of its own.
"""

import torch
from mmcv.cnn import ConvModule, build_activation_layer, build_norm_layer
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import nn

from mmseg_ctx.ops import adaptive_avg_pool2d, dynamic_depthwise_conv2d
from mmseg_ctx.utils.arguments import (
    check_bool,
    check_choice,
    check_decode_head,
    check_features,
    check_int,
    check_ints,
    check_norm_inputs,
    check_one_map,
    is_int,
)


class _ScaleModule(nn.Module):
    """The layers before and after the filters, which all branches have (Section 3.2).

    The layers have the names of those of MMSegmentation's ``DCM``, so that its weights load.
    """

    def __init__(self, in_channels, channels, fusion, conv_cfg, norm_cfg, act_cfg):
        super().__init__()
        layers = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.input_redu_conv = ConvModule(in_channels, channels, 1, **layers)
        self.norm = nn.Identity() if norm_cfg is None else build_norm_layer(norm_cfg, channels)[1]
        self.activate = nn.Identity() if act_cfg is None else build_activation_layer(act_cfg)
        self.fusion_conv = ConvModule(channels, channels, 1, **layers) if fusion else nn.Identity()

    def fuse(self, filtered):
        """Turn the filtered features h_k ``[B, C, h, w]`` into the branch's output O_k."""
        return self.fusion_conv(self.activate(self.norm(filtered)))


class DynamicConvolutionalModule(_ScaleModule):
    """DCM: filter the features with depthwise filters made from the image's own context (Eq. 1).

    Args:
        filter_size (int): k, side of the filters and of the grid of regions they are made from.
        in_channels (int): Channels of the features.
        channels (int): C, width of the reduced features.
        context_channels (int | None): Channels of the features that the filters are made from;
            None where these are also the features to filter. Default: None.
        fusion (bool): Whether a 1×1 convolution mixes the channels afterwards. Default: False.
        conv_cfg (dict | None): Convolution layers, None for ``nn.Conv2d``. Default: None.
        norm_cfg (dict | None): Normalization layers, None for none. Default: None.
        act_cfg (dict): Activation layers. Default: ``dict(type='ReLU')``.
    """

    def __init__(
        self,
        filter_size,
        in_channels,
        channels,
        context_channels=None,
        fusion=False,
        conv_cfg=None,
        norm_cfg=None,
        act_cfg=dict(type='ReLU'),
    ):
        super().__init__(in_channels, channels, fusion, conv_cfg, norm_cfg, act_cfg)
        self.filter_size = filter_size
        self.filter_gen_conv = nn.Conv2d(context_channels or in_channels, channels, 1)

    def generate_filters(self, context):
        """Return g_k, the filters ``[B, C, k, k]`` made from ``context`` ``[B, C', h', w']``."""
        return self.filter_gen_conv(adaptive_avg_pool2d(context, self.filter_size))

    def forward(self, x, context):
        """Return O_k ``[B, C, h, w]`` for features ``x`` ``[B, in_channels, h, w]``."""
        filters = self.generate_filters(context)  # [B, C, k, k]
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
        conv_cfg (dict | None): Convolution layers, None for ``nn.Conv2d``. Default: None.
        norm_cfg (dict | None): Normalization layers, None for none. Default: None.
        act_cfg (dict): Activation layers. Default: ``dict(type='ReLU')``.
    """

    def __init__(
        self,
        filter_size,
        in_channels,
        channels,
        depthwise=True,
        dilation=1,
        fusion=False,
        conv_cfg=None,
        norm_cfg=None,
        act_cfg=dict(type='ReLU'),
    ):
        super().__init__(in_channels, channels, fusion, conv_cfg, norm_cfg, act_cfg)
        self.filter_conv = nn.Conv2d(
            channels,
            channels,
            filter_size,
            padding='same',
            dilation=dilation,
            groups=channels if depthwise else 1,
        )

    def forward(self, x, context):
        """Return O_k ``[B, C, h, w]`` for features ``x``; ``context`` is not used."""
        return self.fuse(self.filter_conv(self.input_redu_conv(x)))


@MODELS.register_module()
class DynamicMultiScaleHead(BaseDecodeHead):
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
        **kwargs: Arguments of ``BaseDecodeHead``, such as ``num_classes``. With
            ``input_transform='resize_concat'`` the head reads several outputs of the backbone,
            concatenated to one map.

    Raises:
        ValueError: ``filter_type`` is unknown, ``dilations`` or ``context_index`` contradicts it,
            or ``input_transform`` gives the head several maps.

    Example:
        >>> head = DynamicMultiScaleHead(64, 32, num_classes=5)
        >>> head([torch.rand(2, 64, 16, 16)]).shape
        torch.Size([2, 5, 16, 16])
    """

    def __init__(
        self,
        in_channels,
        channels,
        *,
        filter_sizes=(1, 3, 5, 7),
        fusion=False,
        filter_type='dynamic',
        dilations=None,
        context_index=None,
        context_channels=None,
        **kwargs,
    ):
        check_decode_head(in_channels, channels, **kwargs)
        filter_sizes = check_ints('filter_sizes', filter_sizes)
        check_bool('fusion', fusion)
        check_choice('filter_type', filter_type, ('dynamic', 'depthwise', 'regular'))
        dilations = _check_dilations(dilations, filter_sizes, filter_type)
        _check_context(context_index, context_channels, filter_type)
        check_one_map(kwargs.get('input_transform'))
        super().__init__(in_channels, channels, **kwargs)
        self.filter_sizes = filter_sizes
        self.fusion = fusion
        self.filter_type = filter_type
        self.context_index = context_index
        self.context_channels = context_channels
        layers = dict(conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg)
        common = dict(in_channels=self.in_channels, channels=channels, fusion=fusion, **layers)
        if filter_type == 'dynamic':
            branches = [
                DynamicConvolutionalModule(size, context_channels=context_channels, **common)
                for size in filter_sizes
            ]
        else:
            depthwise = filter_type == 'depthwise'
            branches = [
                FixedConvolutionalModule(size, depthwise=depthwise, dilation=dilation, **common)
                for size, dilation in zip(filter_sizes, dilations, strict=True)
            ]
        self.dcm_modules = nn.ModuleList(branches)
        self.bottleneck = ConvModule(
            self.in_channels + len(filter_sizes) * channels, channels, 3, padding=1, **layers
        )

    def forward(self, inputs):
        """Return the logits ``[B, N, h, w]`` for the backbone's outputs."""
        check_features(inputs, self.in_index, self.in_channels)
        x = context = self._transform_inputs(inputs)  # [B, in_channels, h, w]
        check_norm_inputs(self, x)
        if self.context_index is not None:
            check_features(inputs, self.context_index, self.context_channels, prefix='context')
            context = inputs[self.context_index]
        scales = [branch(x, context) for branch in self.dcm_modules]  # each [B, C, h, w]
        scales = torch.cat([x, *scales], dim=1)  # reuses the name, so that the parts are freed
        return self.cls_seg(self.bottleneck(scales))


def _check_dilations(dilations, filter_sizes, filter_type):
    """Return the dilation of each branch."""
    if dilations is None:
        return (1,) * len(filter_sizes)
    dilations = check_ints('dilations', dilations)
    if filter_type == 'dynamic':
        raise ValueError(
            "dilations must be None where filter_type is 'dynamic', since only fixed filters are "
            f'dilated, got {dilations!r}'
        )
    if len(dilations) != len(filter_sizes):
        raise ValueError(
            f'dilations must have one entry for each of filter_sizes={filter_sizes!r}, '
            f'got {dilations!r}'
        )
    return dilations


def _check_context(context_index, context_channels, filter_type):
    if context_index is None and context_channels is None:
        return
    if filter_type != 'dynamic':
        raise ValueError(
            "context_index must be None where filter_type is not 'dynamic', since fixed filters "
            f'are not made from features, got {context_index!r}'
        )
    if not is_int(context_index):
        raise TypeError(f'context_index must be an integer, got {context_index!r}')
    check_int('context_channels', context_channels)

"""Context-based Tandem Network (CTNet).

Li, Sun, Zhang, Tang: CTNet: Context-based Tandem Network for Semantic Segmentation, IEEE TPAMI 2022
(https://arxiv.org/abs/2104.09805).

One-dimensional convolutions over the pooled channels gather the channel context. It weights the
channels of the features, and predicts the share of each class in the image. From both, each class
gets a feature vector. The spatial context is attention between the pixels and these N vectors, so
its cost grows linearly with the number of pixels.

Where the paper leaves a choice, this file follows the authors' released code: ReLU after query, key
and value; attention divided by the root of the key's width; and the middle feature added to the
gathered context before a last 3×3 convolution. The layers have names of their own here.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from mmcv.cnn import ConvModule
from mmseg.registry import MODELS
from torch import nn

from mmseg_ctx.heads.base import ContextHead
from mmseg_ctx.losses.head_losses import losses_by_feat
from mmseg_ctx.ops import at_least_float32, autocast_off
from mmseg_ctx.utils.arguments import PositiveInt, Rule, validate_arguments
from mmseg_ctx.utils.recording import show

# An even kernel has no centre.
KernelSize = Annotated[PositiveInt, Rule('and odd', lambda size: size % 2 == 1)]


class MultiLocalChannelExcitation(nn.Module):
    """MCE: weight each channel by convolutions over its neighbouring channels (Eqs. 1–2).

    As in the authors' code, no layer has a bias, and all channels share the weights that merge the
    scales.

    Args:
        channels (int): C.
        kernel_sizes (Sequence[int]): k_1 … k_s, how many neighbouring channels each scale reads;
            odd. Default: ``(9, 17, 33, 65)``.
        pooling (str): Global pooling: ``'avg'``, ``'max'``, or ``'mix'``, their sum (Table 2).
            Default: ``'avg'``.
    """

    def __init__(self, channels, kernel_sizes=(9, 17, 33, 65), pooling='avg'):
        super().__init__()
        self.pooling = pooling
        self.convs = nn.ModuleList(
            nn.Conv1d(1, 1, size, padding=size // 2, bias=False) for size in kernel_sizes
        )
        self.merge = nn.Linear(len(kernel_sizes), 1, bias=False)

    def pool(self, x):
        """Return P_x ``[B, C]``."""
        if self.pooling == 'avg':
            return x.mean(dim=(2, 3))
        if self.pooling == 'max':
            return x.amax(dim=(2, 3))
        return x.mean(dim=(2, 3)) + x.amax(dim=(2, 3))

    def forward(self, x):
        """Return C_m, the channel context ``[B, C]``, for features ``x`` ``[B, C, h, w]``."""
        pooled = self.pool(x).unsqueeze(1)  # [B, 1, C]
        scales = torch.cat([conv(pooled) for conv in self.convs], dim=1)  # [B, s, C]
        return self.merge(scales.transpose(1, 2)).squeeze(2).sigmoid()  # [B, C]


class ChannelContextModule(nn.Module):
    """CCM: weighted features, class probabilities, and a feature vector of each class (Eqs. 3–5).

    The authors' code normalises the class logits over the batch, which cannot train with one image
    a device. This module has only the paper's fully connected layer. It also leaves out their ReLU
    on M, since M is a product of a sigmoid and a softmax and thus never negative.

    Args:
        channels (int): C.
        num_classes (int): N.
        kernel_sizes (Sequence[int]): See :class:`MultiLocalChannelExcitation`.
        pooling (str): See :class:`MultiLocalChannelExcitation`.
    """

    def __init__(self, channels, num_classes, kernel_sizes=(9, 17, 33, 65), pooling='avg'):
        super().__init__()
        self.excitation = MultiLocalChannelExcitation(channels, kernel_sizes, pooling)
        self.class_logits = nn.Linear(channels, num_classes)

    def forward(self, x):
        """Return the middle feature, the class probabilities and the class feature matrix.

        Args:
            x (Tensor): X ``[B, C, h, w]``.

        Returns:
            tuple[Tensor]: X_c ``[B, C, h, w]``, P_p ``[B, N]``, whose rows add up to 1, and
            M ``[B, C, N]``.
        """
        context = self.excitation(x)  # [B, C]
        middle = context[:, :, None, None] * x
        probabilities = at_least_float32(self.class_logits(context)).softmax(dim=1)  # [B, N]
        class_features = context[:, :, None] * probabilities[:, None]  # [B, C, N]
        return middle, probabilities, class_features.to(x.dtype)


class SpatialContextModule(nn.Module):
    """SCM: attention from each pixel to the class features (Eqs. 6–7).

    Args:
        channels (int): C.
        key_channels (int): C/s, width of query, key and value. Default: 256.
        **layers: ``conv_cfg``, ``norm_cfg`` and ``act_cfg`` of ``ConvModule``.
    """

    def __init__(self, channels, key_channels=256, **layers):
        super().__init__()
        self.scale = key_channels**-0.5
        self.query = ConvModule(channels, key_channels, 3, padding=1, **layers)
        self.key = ConvModule(channels, key_channels, 1, **layers)
        self.value = ConvModule(channels, key_channels, 1, **layers)
        self.expand = ConvModule(key_channels, channels, 1, **layers)
        self.fuse = ConvModule(channels, channels, 3, padding=1, **layers)

    def forward(self, x, class_features):
        """Return X_s ``[B, C, h, w]``.

        Args:
            x (Tensor): X_c, the middle feature ``[B, C, h, w]``.
            class_features (Tensor): M ``[B, C, N]``.
        """
        query = self.query(x)  # [B, C/s, h, w]
        class_features = class_features.unsqueeze(3)  # [B, C, N, 1]
        key = self.key(class_features).flatten(2)  # [B, C/s, N]
        value = self.value(class_features).flatten(2)  # [B, C/s, N]
        # In float16, products of large features would overflow.
        with autocast_off(x):
            energy = (
                self.scale
                * at_least_float32(key).transpose(1, 2)
                @ at_least_float32(query.flatten(2))
            )
            attention = energy.softmax(dim=1)  # [B, N, h * w]
        show(self, attention=attention.unflatten(2, x.shape[2:]))
        attention = attention.to(value.dtype)
        context = (value @ attention).view(query.shape)  # [B, C/s, h, w]
        return self.fuse(self.expand(context) + x)


@MODELS.register_module()
class ContextTandemHead(ContextHead):
    """Decode head of CTNet: channel context guides spatial context, and both are merged (Fig. 2).

    The features should have 1/8 of the image's size. A dilated backbone gives such features, or a
    backbone of stride 32 with MMSegmentation's ``JPU`` neck.

    Args:
        in_channels (int | Sequence[int]): Channels of the features.
        channels (int): C, width of the modules and of the classifier's input.
        key_channels (int): C/s, width of the attention. Default: 256.
        kernel_sizes (Sequence[int]): Kernels of the one-dimensional convolutions over the channels,
            odd and at most ``2 * channels``. Default: ``(9, 17, 33, 65)``.
        pooling (str): ``'avg'``, ``'max'`` or ``'mix'``, their sum (Table 2). Default: ``'avg'``.
        mode (str): How the two modules are joined (Tables 5 and 6). ``'tandem'``: the spatial
            module reads the output of the channel module (CTNet). ``'parallel'``: both read the
            features (PANet). ``'channel'`` or ``'spatial'``: there is only that module (OCCM,
            OSCM). In ``'parallel'`` and ``'spatial'`` the class features are learned and the same
            for all images, since the paper does not say what they are. Default: ``'tandem'``.
        loss_class_probability (dict | None): Config of the loss on the class probabilities, None
            for no such loss. The mode ``'spatial'`` predicts no class probabilities and ignores it.
            Default: ``dict(type='ClassProbabilityLoss')``.
        input_transform (str | None): ``'resize_concat'`` to read several outputs of the backbone,
            concatenated to one map. Default: None.
        **kwargs: Arguments of ``BaseDecodeHead``, such as ``num_classes``. In a binary model, N of
            the modules is 2 even if ``num_classes`` is 1.

    Example:
        >>> head = ContextTandemHead(64, 40, num_classes=5, key_channels=16)
        >>> head([torch.rand(2, 64, 16, 16)]).shape
        torch.Size([2, 5, 16, 16])
    """

    @validate_arguments
    def __init__(
        self,
        in_channels: PositiveInt | Sequence[PositiveInt],
        channels: PositiveInt,
        *,
        key_channels: PositiveInt = 256,
        kernel_sizes: Sequence[KernelSize] = (9, 17, 33, 65),
        pooling: Literal['avg', 'max', 'mix'] = 'avg',
        mode: Literal['tandem', 'parallel', 'channel', 'spatial'] = 'tandem',
        loss_class_probability: dict | None = dict(type='ClassProbabilityLoss'),
        input_transform: Literal['resize_concat'] | None = None,
        **kwargs,
    ):
        super().__init__(in_channels, channels, input_transform=input_transform, **kwargs)
        self.mode = mode
        # A binary model may have one class, and has labels of two.
        num_labels = max(self.num_classes, 2)
        self.input_conv = ConvModule(self.in_channels, channels, 3, padding=1, **self.layers)
        self.loss_class_probability = None
        if mode != 'spatial':
            self.channel_context = ChannelContextModule(channels, num_labels, kernel_sizes, pooling)
            if loss_class_probability is not None:
                self.loss_class_probability = MODELS.build(loss_class_probability)
            elif mode != 'tandem':
                # Nothing reads the probabilities then, and distributed training waits for the
                # gradient of every parameter that requires one.
                self.channel_context.class_logits.requires_grad_(False)
        if mode != 'channel':
            self.spatial_context = SpatialContextModule(channels, key_channels, **self.layers)
        if mode in ('parallel', 'spatial'):
            self.class_features = nn.Parameter(torch.randn(channels, num_labels))
        self.channel_conv = ConvModule(channels, channels, 3, padding=1, **self.layers)
        branches = 1 if mode == 'channel' else 2
        self.merge = ConvModule(branches * channels, channels, 1, **self.layers)

    def forward_context(self, inputs):
        """Return the classifier's input and the class probabilities.

        Args:
            inputs (Sequence[Tensor]): Outputs of the backbone or the neck.

        Returns:
            tuple[Tensor, Tensor | None]: Features ``[B, C, h, w]``, and P_p ``[B, N]``, or None
            where ``mode`` is ``'spatial'``.
        """
        x = self.input_conv(self._transform_inputs(inputs))  # [B, C, h, w]
        middle, probabilities, class_features = x, None, None
        if self.mode != 'spatial':
            middle, probabilities, class_features = self.channel_context(x)
            self.show(class_probabilities=probabilities)
        branches = [self.channel_conv(middle)]
        if self.mode == 'tandem':
            branches.insert(0, self.spatial_context(middle, class_features))
        elif self.mode != 'channel':
            learned = self.class_features.repeat(x.shape[0], 1, 1)  # [B, C, N]
            branches.insert(0, self.spatial_context(x, learned))
        branches = torch.cat(branches, dim=1)  # reuses the name, so that the parts are freed
        return self.merge(branches), probabilities

    def forward(self, inputs):
        """Return the logits ``[B, N, h, w]`` for the outputs of the backbone or the neck."""
        features, _ = self.forward_context(inputs)
        return self.cls_seg(features)

    def loss(self, inputs, batch_data_samples, train_cfg):
        """Return the losses of the logits and of the class probabilities (Eq. 8).

        Args:
            inputs (Sequence[Tensor]): Outputs of the backbone or the neck, each ``[B, C, h, w]``.
            batch_data_samples (list[SegDataSample]): Each has ``gt_sem_seg``, ``[1, H, W]``.
            train_cfg (ConfigDict): Not used.

        Returns:
            dict[str, Tensor]: The losses of ``BaseDecodeHead``, and ``loss_class_probability``.
        """
        features, probabilities = self.forward_context(inputs)
        losses = losses_by_feat(self, self.cls_seg(features), batch_data_samples)
        if self.loss_class_probability is not None:
            label = self._stack_batch_gt(batch_data_samples).squeeze(1)  # [B, H, W]
            losses[self.loss_class_probability.loss_name] = self.loss_class_probability(
                probabilities, label, ignore_index=self.ignore_index
            )
        return losses

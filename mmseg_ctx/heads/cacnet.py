"""Context-adaptive Convolution Network (CaC-Net).

Liu, He, Qiao, Ren, Li: Learning to Predict Context-adaptive Convolution for Semantic
Segmentation, ECCV 2020.

A context-adaptive convolution predicts depthwise kernels from the whole feature map: it multiplies
the outputs of two 1×1 convolutions as matrices. The features, convolved with these kernels, give a
weight for each channel at each pixel, and the weights multiply the features. The head has two such
modules beside a global-pooling branch.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule, build_norm_layer
from mmseg.registry import MODELS
from torch import nn

from mmseg_ctx.heads.base import ContextHead
from mmseg_ctx.ops import at_least_float32, autocast_off, spatially_varying_weights
from mmseg_ctx.utils.arguments import PositiveInt, Rule, at_least, validate_arguments
from mmseg_ctx.utils.recording import show

# An even kernel has no centre, and one of size 1 reads no context.
KernelSize = Annotated[int, at_least(3), Rule('and odd', lambda size: size % 2 == 1)]


class ContextAdaptiveConv(nn.Module):
    """Multiply features by weights, from convolutions whose kernels the features predict.

    Args:
        channels (int): C, channels of the features.
        kernel_size (int): s, side of the predicted kernels: odd, at least 3. Default: 3.
        dilations (Sequence[int]): Each kernel is applied once with each of these dilations.
            Default: ``(1, 2, 3)``.
        kernel_source (str): Where the kernels come from. ``'context'`` is the paper's method
            (Eq. 1). Its Table 6 compares it with ``'fixed'``, learned kernels that are the same for
            every image, and with ``'pooled'``, kernels from a fully connected layer on the
            globally pooled features. Default: ``'context'``.
        norm_cfg (dict | None): Normalization of the predicted kernels, None for ``BN``.
            Default: None.

    Example:
        >>> ContextAdaptiveConv(8)(torch.rand(2, 8, 16, 16)).shape
        torch.Size([2, 8, 16, 16])
    """

    def __init__(
        self, channels, kernel_size=3, dilations=(1, 2, 3), kernel_source='context', norm_cfg=None
    ):
        super().__init__()
        self.channels = channels
        self.kernel_size = kernel_size
        self.dilations = tuple(dilations)
        self.kernel_source = kernel_source
        if kernel_source == 'fixed':
            self.kernels = nn.Parameter(torch.empty(channels, kernel_size, kernel_size))
            nn.init.kaiming_uniform_(self.kernels.unsqueeze(1), a=math.sqrt(5))
            return
        if kernel_source == 'context':
            self.query = nn.Conv2d(channels, kernel_size**2, 1)
            self.key = nn.Conv2d(channels, channels, 1)
        else:
            self.fc = nn.Linear(channels, channels * kernel_size**2)
        self.norm = build_norm_layer(norm_cfg or dict(type='BN'), channels)[1]

    def predict_kernels(self, x):
        """Return the kernels D ``[B, C, s, s]`` for features ``x`` ``[B, C, h, w]``."""
        if self.kernel_source == 'fixed':
            return self.kernels.expand(x.size(0), -1, -1, -1)  # [B, C, s, s]
        with autocast_off(x):
            similarity = self._pooled(x) if self.kernel_source == 'pooled' else self._context(x)
            kernels = similarity.unflatten(2, (self.kernel_size, self.kernel_size))
            return self.norm(kernels)  # [B, C, s, s]

    def _context(self, x):
        """Return D̄ᵀ / n ``[B, C, s²]`` (Eq. 1), where n is the number of pixels.

        The key is linear in the features, K̄ = X̄A + 1bᵀ, hence Q̄ᵀK̄ = (Q̄ᵀX̄)A + (Q̄ᵀ1)bᵀ. So the key
        convolution is applied to Q̄ᵀX̄, which has s² rows, instead of to X̄, which has n. It is called
        with a further row, zero, whose output is b: FSDP has a module's weights where it is called.

        Division by n turns the sum over the pixels into a mean, whose scale does not depend on the
        size of the image.
        """
        x = at_least_float32(x)
        features = x.flatten(2)  # [B, C, n]
        query = at_least_float32(self.query(x.to(self.query.weight.dtype))).flatten(2)  # [B, s², n]
        context = features @ query.transpose(1, 2) / features.size(2)  # [B, C, s²]
        rows = F.pad(context, (0, 1)).to(self.key.weight.dtype)  # [B, C, s² + 1]
        keys = self.key(rows.unsqueeze(3)).squeeze(3)  # (Q̄ᵀX̄)A + 1bᵀ above b
        mean_query = query.mean(2).unsqueeze(1).to(keys.dtype)  # [B, 1, s²]
        return keys[..., :-1] + keys[..., -1:] * (mean_query - 1)

    def _pooled(self, x):
        pooled = at_least_float32(x).mean((2, 3)).to(self.fc.weight.dtype)  # [B, C]
        return self.fc(pooled).unflatten(1, (self.channels, -1))  # [B, C, s²]

    def forward(self, x):
        """Return the weighted features X* ``[B, C, h, w]``."""
        kernels = self.predict_kernels(x)  # D, [B, C, s, s]
        weights = spatially_varying_weights(x, kernels, self.dilations)  # W, [B, C, h, w], Eq. 2
        show(self, features=x, kernels=kernels, weights=weights)
        return x * weights


@MODELS.register_module()
class ContextAdaptiveConvHead(ContextHead):
    """Decode head of CaC-Net: context-adaptive convolutions beside globally pooled features.

    Args:
        in_channels (int): Channels of the features.
        channels (int): C, width of each branch and of the classifier's input.
        kernel_sizes (Sequence[int]): Kernel size of each context-adaptive convolution, each odd
            and at least 3. Default: ``(3, 3)``.
        dilations (Sequence[int]): Each kernel is applied once with each of these dilations.
            Default: ``(1, 2, 3)``.
        global_pooling (bool): Whether there is a global-pooling branch. Default: True.
        kernel_source (str): ``'context'``, ``'fixed'`` or ``'pooled'``; see
            :class:`ContextAdaptiveConv`. Default: ``'context'``.
        input_transform (str | None): ``'resize_concat'`` to read several outputs of the backbone,
            concatenated to one map. Default: None.
        **kwargs: Arguments of ``BaseDecodeHead``, such as ``num_classes``.

    Example:
        >>> head = ContextAdaptiveConvHead(64, 32, num_classes=5)
        >>> head([torch.rand(2, 64, 16, 16)]).shape
        torch.Size([2, 5, 16, 16])
    """

    @validate_arguments
    def __init__(
        self,
        in_channels: PositiveInt | Sequence[PositiveInt],
        channels: PositiveInt,
        *,
        kernel_sizes: Sequence[KernelSize] = (3, 3),
        dilations: Sequence[PositiveInt] = (1, 2, 3),
        global_pooling: bool = True,
        kernel_source: Literal['context', 'fixed', 'pooled'] = 'context',
        input_transform: Literal['resize_concat'] | None = None,
        **kwargs,
    ):
        super().__init__(in_channels, channels, input_transform=input_transform, **kwargs)
        self.kernel_source, self.dilations = kernel_source, dilations
        self.reductions = nn.ModuleList(
            ConvModule(self.in_channels, channels, 1, **self.layers) for _ in kernel_sizes
        )
        self.context_convs = nn.ModuleList(
            ContextAdaptiveConv(channels, size, dilations, kernel_source, self.norm_cfg)
            for size in kernel_sizes
        )
        self.global_pool = None
        if global_pooling:
            # No norm: with one image a batch, one value per channel has no variance.
            pooled = ConvModule(
                self.in_channels, channels, 1, conv_cfg=self.conv_cfg, act_cfg=self.act_cfg
            )
            self.global_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), pooled)
        branches = len(kernel_sizes) + global_pooling
        self.merge = ConvModule(branches * channels, channels, 1, **self.layers)

    def forward(self, inputs):
        """Return the logits ``[B, N, h, w]`` for the backbone's outputs."""
        x = self._transform_inputs(inputs)  # [B, in_channels, h, w]
        branches = [
            context_conv(reduction(x))  # [B, C, h, w]
            for reduction, context_conv in zip(self.reductions, self.context_convs, strict=True)
        ]
        if self.global_pool is not None:
            branches.append(self.global_pool(x).expand_as(branches[0]))  # [B, C, h, w]
        branches = torch.cat(branches, dim=1)  # reuses the name, so that the parts are freed
        return self.cls_seg(self.merge(branches))

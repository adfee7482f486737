"""Entropy-aware, class-wise distillation loss of the context-aware classifier (CAC)."""

from typing import Literal

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import nn

from mmseg_ctx.ops import at_least_float32, mask_ignored
from mmseg_ctx.ops.prototypes import EPSILON
from mmseg_ctx.utils.arguments import NonNegative, Ratio, validate_arguments


@MODELS.register_module()
class ClassEntropyKLLoss(nn.Module):
    """L_KL of CAC: the refined classifier learns to predict what the oracle predicts.

    Source: Tian et al., "Learning Context-aware Classifier for Semantic Segmentation", AAAI 2023.
    The default is Eq. 11. ``class_wise=False`` gives Eq. 10, and with ``entropy_weighting=False``
    besides, Eq. 7. The mean over classes leaves out classes without a labelled pixel. Ignored
    pixels do not count. No gradient reaches the oracle or the entropy weights.

    Args:
        loss_weight (float): Factor of the loss. Default: 1.0.
        entropy_weighting (bool): Whether the entropy of each pixel's prediction is its weight.
            Default: True.
        class_wise (bool): Whether to average within each class first and then over classes, so
            that small classes count as much as large ones. Default: True.
        soft_target_ratio (float): Share of the oracle's probabilities in the target; the one-hot
            label makes up the rest. It is 0.5 in the released code, 1.0 in the paper. Default: 0.5.
        entropy_source (str): Whose prediction gives the entropy: ``'oracle'``, ``'estimate'`` (the
            refined classifier) or ``'prior'`` (Table 3). Default: ``'oracle'``.

    Example:
        >>> loss = ClassEntropyKLLoss()
        >>> prior, estimate, oracle = torch.randn(3, 2, 6, 8, 8)
        >>> loss(prior, estimate, oracle, torch.zeros(2, 8, 8).long()).shape
        torch.Size([])
    """

    @validate_arguments
    def __init__(
        self,
        loss_weight: NonNegative = 1.0,
        entropy_weighting: bool = True,
        class_wise: bool = True,
        soft_target_ratio: Ratio = 0.5,
        entropy_source: Literal['oracle', 'estimate', 'prior'] = 'oracle',
    ):
        super().__init__()
        self.loss_weight = loss_weight
        self.entropy_weighting = entropy_weighting
        self.class_wise = class_wise
        self.soft_target_ratio = soft_target_ratio
        self.entropy_source = entropy_source

    def forward(self, prior, estimate, oracle, label, ignore_index=255, scope='batch'):
        """Return the loss of the refined classifier's logits.

        Args:
            prior (Tensor): p, logits of the original classifier, ``[B, N, h, w]``.
            estimate (Tensor): p_p, logits of the refined classifier, ``[B, N, h, w]``.
            oracle (Tensor): p_y, logits of the oracle classifier, ``[B, N, h, w]``.
            label (Tensor): Classes at the logits' size, int64, ``[B, h, w]``.
            ignore_index (int | None): Value of pixels without a label. Default: 255.
            scope (str): ``'batch'`` averages over the pixels of all images; ``'image'`` averages
                over each image (Eq. 11), then over the images. Default: ``'batch'``.

        Returns:
            Tensor: A scalar, float32 or wider. If no pixel is labelled, it is zero and so is its
            gradient.
        """
        prior, estimate, oracle = map(at_least_float32, (prior, estimate, oracle))
        label = mask_ignored(label, ignore_index)
        labelled = label >= 0  # [B, h, w]
        weight = labelled.to(estimate.dtype)
        if self.entropy_weighting:
            sources = dict(prior=prior, estimate=estimate, oracle=oracle)
            weight = weight * _entropy(sources[self.entropy_source].detach())
        group, num_groups = (label + 1, prior.shape[1]) if self.class_wise else (labelled.long(), 1)
        target = _soft_target(oracle.detach(), label.clamp(min=0), self.soft_target_ratio)
        divergence = F.cross_entropy(estimate, target, reduction='none')  # [B, h, w]
        return self.loss_weight * _mean_of_groups(divergence, weight, group, num_groups, scope)


def _soft_target(logits, label, ratio):
    """Return ``ratio`` times the softmax, plus ``1 - ratio`` times the one-hot label."""
    target = ratio * logits.softmax(dim=1)  # [B, N, h, w]
    hard = torch.full_like(label[:, None], 1 - ratio, dtype=target.dtype)
    return target.scatter_add(1, label[:, None], hard)


def _entropy(logits):
    """Return the entropy of each pixel's softmax (Eq. 9), ``[B, h, w]``."""
    log_probabilities = logits.log_softmax(dim=1)
    return -(log_probabilities * log_probabilities.exp()).sum(dim=1)


def _mean_of_groups(values, weight, group, num_groups, scope):
    """Return the weighted mean of ``values`` in each group of pixels, averaged over the groups.

    ``values``, ``weight`` and ``group`` are ``[B, h, w]``. A pixel's group is 1 to ``num_groups``
    (G), or 0 for none. Groups without a pixel do not count. The scope ``'image'`` forms groups in
    each image, and averages over the images at the end.
    """
    images = len(values) if scope == 'image' else 1
    slots = num_groups + 1  # of an image; slot 0 takes the pixels of no group
    first_slots = slots * torch.arange(images, device=group.device)  # [images]
    pixels = torch.stack([weight * values, weight, torch.ones_like(weight)], dim=3).flatten(0, 2)
    sums = pixels.new_zeros(images * slots, 3).index_add(
        0, (group + first_slots[:, None, None]).flatten(), pixels
    )
    weighted, weights, counts = sums.view(images, slots, 3)[:, 1:].unbind(dim=2)  # [images, G]
    group_counts = (counts > 0).sum(dim=1).clamp(min=1)  # [images]
    return ((weighted / (weights + EPSILON)).sum(dim=1) / group_counts).mean()

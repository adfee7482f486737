"""Entropy-aware, class-wise distillation of the context-aware classifier (CAC)."""

import torch
from mmseg.registry import MODELS
from torch import nn

from mmseg_ctx.arguments import check_bool, check_choice, check_number
from mmseg_ctx.ops import autocast_off, mask_ignored, one_hot, widen
from mmseg_ctx.ops.prototypes import EPSILON


def _entropy(logits):
    """Return the entropy of each pixel's softmax (Eq. 9), ``[B, h, w]``."""
    log_probabilities = logits.log_softmax(dim=1)
    return -(log_probabilities.exp() * log_probabilities).sum(dim=1)


def _soft_cross_entropy(logits, soft_logits, label, soft_ratio):
    """Return the cross-entropy with softened labels, the inner sum of Eqs. 7, 10 and 11.

    The labels are ``soft_ratio`` of the probabilities of ``soft_logits``, the rest one-hot.
    """
    log_probabilities = logits.log_softmax(dim=1)
    soft = (soft_logits.softmax(dim=1) * log_probabilities).sum(dim=1)  # [B, h, w]
    hard = log_probabilities.gather(1, label.clamp(min=0)[:, None])[:, 0]  # [B, h, w]
    return -(soft_ratio * soft + (1 - soft_ratio) * hard)


def _mean_of_groups(values, weight, groups, scope):
    """Average ``values`` in each group of pixels by ``weight``, then over groups, then images.

    Args:
        values (Tensor): ``[B, h, w]``.
        weight (Tensor): ``[B, h, w]``.
        groups (Tensor): One mask a group, ``[B, G, h, w]``; groups without a pixel do not count.
        scope (str): Whether a group is of one ``'image'`` or of the ``'batch'``.
    """
    pixels = torch.stack([weight * values, weight, torch.ones_like(weight)], dim=3)
    sums = groups.flatten(2) @ pixels.flatten(1, 2)  # [B, G, 3]
    if scope == 'batch':
        sums = sums.sum(dim=0, keepdim=True)  # [1, G, 3]
    weighted, weights, pixel_counts = sums.unbind(dim=2)  # [B, G]
    group_counts = (pixel_counts > 0).sum(dim=1).clamp(min=1)  # [B]
    return ((weighted / (weights + EPSILON)).sum(dim=1) / group_counts).mean()


@MODELS.register_module()
class ClassEntropyKLLoss(nn.Module):
    """Teach the estimated context-aware classifier what the oracle one predicts.

    Source: Tian et al., "Learning Context-aware Classifier for Semantic Segmentation", AAAI 2023:
    Eq. 7 (``entropy_weighting=False, class_wise=False``), Eq. 10 (``class_wise=False``) and Eq. 11
    (both). A class without a labelled pixel has no mean in Eq. 11, so the mean is over classes that
    are present. Ignored pixels count nowhere, and no gradient reaches the oracle or the weights.

    Args:
        loss_weight (float): Factor of the loss. Default: 1.0.
        entropy_weighting (bool): Weigh each pixel by the entropy of its prediction.
            Default: True.
        class_wise (bool): Average in each class, then over classes, so that large classes do not
            drown small ones. Default: True.
        soft_target_ratio (float): Share of the oracle's probabilities in the target, the rest
            being the one-hot label: 0.5 in the released code, 1.0 in the paper. Default: 0.5.
        entropy_source (str): Whose prediction gives the entropy, ``'oracle'``, ``'estimate'`` or
            ``'prior'`` (Table 3). Default: ``'oracle'``.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: An argument out of range.

    Example:
        >>> loss = ClassEntropyKLLoss()
        >>> prior, estimate, oracle = torch.randn(3, 2, 6, 8, 8)
        >>> loss(prior, estimate, oracle, torch.zeros(2, 8, 8).long()).shape
        torch.Size([])
    """

    def __init__(
        self,
        loss_weight=1.0,
        entropy_weighting=True,
        class_wise=True,
        soft_target_ratio=0.5,
        entropy_source='oracle',
    ):
        super().__init__()
        self.loss_weight = check_number('loss_weight', loss_weight)
        self.entropy_weighting = check_bool('entropy_weighting', entropy_weighting)
        self.class_wise = check_bool('class_wise', class_wise)
        self.soft_target_ratio = check_number('soft_target_ratio', soft_target_ratio)
        if soft_target_ratio > 1:
            raise ValueError(f'soft_target_ratio must be in [0, 1], got {soft_target_ratio!r}')
        self.entropy_source = check_choice(
            'entropy_source', entropy_source, ('oracle', 'estimate', 'prior')
        )

    def forward(self, prior, estimate, oracle, label, ignore_index=255, scope='batch'):
        """Return the loss of the estimated classifier's logits.

        Args:
            prior (Tensor): Logits p of the original classifier, ``[B, N, h, w]``.
            estimate (Tensor): Logits p_p of the estimated context-aware classifier, likewise.
            oracle (Tensor): Logits p_y of the oracle classifier, likewise.
            label (Tensor): Classes at the logits' size, int64, ``[B, h, w]``.
            ignore_index (int | None): Value of pixels without a label. Default: 255.
            scope (str): Average over the pixels of the whole ``'batch'``, or of each ``'image'``
                (Eq. 11) and then over images. Default: ``'batch'``.

        Returns:
            Tensor: A scalar, float32 or wider; zero, with a gradient of zeros, where nothing is
            labelled.
        """
        logits = dict(prior=widen(prior), estimate=widen(estimate), oracle=widen(oracle))
        estimate, oracle = logits['estimate'], logits['oracle'].detach()
        label = mask_ignored(label, ignore_index)
        labelled = (label >= 0).to(estimate.dtype)  # [B, h, w]
        weight, groups = labelled, labelled[:, None]
        if self.entropy_weighting:
            weight = labelled * _entropy(logits[self.entropy_source].detach())
        if self.class_wise:
            groups = one_hot(label, estimate.shape[1], estimate.dtype)  # [B, N, h, w]
        with autocast_off(estimate):
            divergence = _soft_cross_entropy(estimate, oracle, label, self.soft_target_ratio)
            return self.loss_weight * _mean_of_groups(divergence, weight, groups, scope)

"""Class prototypes: features averaged over the pixels of each class."""

import torch

from mmseg_ctx.ops.precision import at_least_float32, autocast_off

# Against a division by zero where a class has no pixel, or a probability that underflows.
EPSILON = 1e-12


def one_hot(label, num_classes, dtype=torch.float32):
    """Return one mask for each class; a label that is no class is in none of them.

    Args:
        label (Tensor): Integers, ``[B, h, w]``.
        num_classes (int): N.
        dtype (torch.dtype): That of the masks. Default: float32.

    Returns:
        Tensor: Ones and zeros, ``[B, N, h, w]``.
    """
    classes = torch.arange(num_classes, device=label.device)
    return (label[:, None] == classes[:, None, None]).to(dtype)


def class_prototypes(features, membership, absent=None, scope='image'):
    """Average features over the pixels of each class, weighted by how much they belong to it.

    Source: context-aware classifier, Eq. 1 (masks of the ground truth) and Eq. 4 (softmax
    probabilities). Computed in float32 or wider.

    Args:
        features (Tensor): ``[B, d, h, w]``.
        membership (Tensor): Non-negative weights of each pixel in each class, ``[B, N, h, w]``.
        absent (Tensor | None): What a class without any weight gets, ``[N, d]``. Default: zeros.
        scope (str): Average over each ``'image'`` or over the whole ``'batch'``.
            Default: ``'image'``.

    Returns:
        Tensor: ``[B, N, d]``, or ``[1, N, d]`` for the batch.
    """
    with autocast_off(features):
        features = at_least_float32(features)
        membership = membership.to(features.dtype)
        sums = membership.flatten(2) @ features.flatten(2).transpose(1, 2)  # [B, N, d]
        weights = membership.flatten(2).sum(dim=2, keepdim=True)  # [B, N, 1]
        if scope == 'batch':
            sums = sums.sum(dim=0, keepdim=True)  # [1, N, d]
            weights = weights.sum(dim=0, keepdim=True)  # [1, N, 1]
        prototypes = sums / (weights + EPSILON)
        return prototypes if absent is None else torch.where(weights > 0, prototypes, absent)

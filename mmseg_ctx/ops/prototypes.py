"""Class prototypes: features averaged over the pixels of each class."""

import torch

from mmseg_ctx.ops.precision import at_least_float32, autocast_off

# In the place of a sum of zero, of a class without a pixel or whose probabilities underflow.
EPSILON = 1e-12


def one_hot(label, num_classes, dtype=torch.float32):
    """Return a mask of each class. A pixel whose label is no class is in no mask.

    Args:
        label (Tensor): Integers, ``[B, h, w]``.
        num_classes (int): N.
        dtype (torch.dtype): Type of the masks. Default: float32.

    Returns:
        Tensor: Ones and zeros, ``[B, N, h, w]``.
    """
    classes = torch.arange(num_classes, device=label.device)
    return (label[:, None] == classes[:, None, None]).to(dtype)


def class_prototypes(features, membership, absent=None, scope='image'):
    """Return the mean feature of each class, weighted by the pixels' membership in the class.

    Source: context-aware classifier, Eq. 1 (masks of the ground truth) and Eq. 4 (softmax
    probabilities). Computed in float32 or wider.

    Args:
        features (Tensor): ``[B, d, h, w]``.
        membership (Tensor): Weight of each pixel in each class, at least 0, ``[B, N, h, w]``.
        absent (Tensor | None): Prototypes of classes whose weights are all zero, ``[N, d]``; None
            for zeros. Default: None.
        scope (str): Whether to average over each ``'image'`` or over the whole ``'batch'``.
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
        # Not added, since PyTorch's exporter to ONNX takes so small a summand for zero.
        prototypes = sums / weights.clamp(min=EPSILON)
        return prototypes if absent is None else torch.where(weights > 0, prototypes, absent)

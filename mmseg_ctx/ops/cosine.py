"""Logits of a classifier that differs from image to image."""

import torch

from mmseg_ctx.ops.precision import autocast_off, widen


def cosine_logits(features, classifier, temperature):
    """Compare each pixel's feature with each class's weights by their angle.

    Source: context-aware classifier, Eqs. 3 and 6. The product is divided by the features' norms,
    which costs a pass over the logits, where normalising the features would cost one over them.
    Computed in float32 or wider.

    Args:
        features (Tensor): ``[B, d, h, w]``. One of zeros has logits and gradients of zero.
        classifier (Tensor): Weights of the classes, ``[B, N, d]``, or ``[1, N, d]`` for all images.
        temperature (float): Logits are in ``[-temperature, temperature]``.

    Returns:
        Tensor: ``[B, N, h, w]``.
    """
    features, classifier = widen(features), widen(classifier)
    direction = classifier * (temperature / _norm(classifier, dim=2))  # [B, N, d]
    return dot_logits(features, direction) / _norm(features, dim=1)


def dot_logits(features, classifier):
    """Multiply each pixel's feature with each class's weights, in float32 or wider.

    Args:
        features (Tensor): ``[B, d, h, w]``.
        classifier (Tensor): Weights of the classes, ``[B, N, d]``, or ``[1, N, d]`` for all images.

    Returns:
        Tensor: ``[B, N, h, w]``.
    """
    with autocast_off(features):
        logits = widen(classifier) @ widen(features).flatten(2)  # [B, N, hw]
        return logits.unflatten(2, features.shape[2:])


def _norm(vectors, dim):
    norm = torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    # Infinity, where a clamp to something small would blow the gradient up.
    return norm.masked_fill(norm == 0, torch.inf)

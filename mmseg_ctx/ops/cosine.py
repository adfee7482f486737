"""Logits of a classifier whose weights may differ between images."""

import torch
from torch.autograd.function import once_differentiable

from mmseg_ctx.ops.kernel_choice import is_transformed
from mmseg_ctx.ops.precision import at_least_float32, autocast_off


def cosine_logits(features, classifier, temperature):
    """Return the cosines between each pixel's feature and each class's weights, times a factor.

    Source: context-aware classifier, Eqs. 3 and 6. The product is divided by the norms of the
    features, since dividing the features first would take another pass over them and more memory.
    Computed in float32 or wider.

    Args:
        features (Tensor): ``[B, d, h, w]``. A feature of zeros has logits and gradients of zero.
        classifier (Tensor): Weights of the classes, ``[B, N, d]``, or ``[1, N, d]`` for all images.
        temperature (float): The factor. Logits are in ``[-temperature, temperature]``.

    Returns:
        Tensor: ``[B, N, h, w]``.
    """
    features, classifier = at_least_float32(features), at_least_float32(classifier)
    norm = torch.linalg.vector_norm(classifier, dim=2, keepdim=True)  # [B, N, 1]
    direction = classifier * (temperature / _infinite_where_zero(norm))  # [B, N, d]
    direction = direction.expand(features.size(0), -1, -1)
    with autocast_off(features):
        # A trace that contains a Python function cannot be saved.
        plain = torch.jit.is_tracing() or not torch.is_grad_enabled()
        if plain or is_transformed(features, direction):
            return _divided_by_norm(features, direction)[0]
        return _DividedByNorm.apply(features, direction)[0]


def dot_logits(features, classifier):
    """Multiply each pixel's feature with each class's weights, in float32 or wider.

    Args:
        features (Tensor): ``[B, d, h, w]``.
        classifier (Tensor): Weights of the classes, ``[B, N, d]``, or ``[1, N, d]`` for all images.

    Returns:
        Tensor: ``[B, N, h, w]``.
    """
    with autocast_off(features):
        logits = at_least_float32(classifier) @ at_least_float32(features).flatten(2)  # [B, N, hw]
    return logits.unflatten(2, features.shape[2:])


def _infinite_where_zero(norm):
    # Division by infinity gives zeros. Division by a small number would make gradients explode.
    return norm.masked_fill(norm == 0, torch.inf)


def _divided_by_norm(features, direction):
    # The squares are summed over a quarter of the channels at a time: on the CPU this is ten times
    # as fast as PyTorch's norm over channels, and needs no tensor of the features' size.
    squares = sum(part.square().sum(dim=1, keepdim=True) for part in features.chunk(4, dim=1))
    norm = _infinite_where_zero(squares).sqrt()  # [B, 1, h, w]
    return dot_logits(features, direction).div_(norm), norm  # [B, N, h, w]


class _DividedByNorm(torch.autograd.Function):
    """``direction @ features / |features|`` with a backward pass that needs less memory.

    The backward pass makes one tensor of the features' size. Autograd would make three.
    """

    @staticmethod
    def forward(ctx, features, direction):
        logits, norm = _divided_by_norm(features, direction)
        ctx.save_for_backward(features, direction, norm, logits)
        ctx.mark_non_differentiable(norm)
        return logits, norm

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_logits, _):
        features, direction, norm, logits = ctx.saved_tensors
        grad_norm = -(grad_logits * logits).sum(dim=1, keepdim=True) / norm  # [B, 1, h, w]
        grad_product = (grad_logits / norm).flatten(2)  # [B, N, hw]
        grad_direction = grad_product @ features.flatten(2).transpose(1, 2)  # [B, N, d]
        grad_features = direction.transpose(1, 2) @ grad_product  # [B, d, hw]
        # Detached from the tensor it views, so that autograd adds the next gradient in place.
        grad_features = grad_features.unflatten(2, features.shape[2:]).detach()
        return grad_features.addcmul_(features, grad_norm / norm), grad_direction

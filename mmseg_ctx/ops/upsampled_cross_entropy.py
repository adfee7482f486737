"""Upsampling and cross-entropy as one operation that never holds a full-size tensor."""

import torch
from torch.autograd.function import once_differentiable

from mmseg_ctx.ops.interpolation import Interpolation, tile_size
from mmseg_ctx.ops.precision import autocast_off, widen


def upsampled_cross_entropy(
    logits,
    label,
    class_weight=None,
    ignore_index=255,
    avg_non_ignore=False,
    align_corners=False,
    with_accuracy=False,
):
    """Compute the cross-entropy of logits that are resized bilinearly to the label's size.

    Equals MMSegmentation's ``resize`` followed by its ``CrossEntropyLoss``. The gradient with
    respect to the small logits is taken in the same pass, tile by tile, so that memory does not
    grow with the label. Computed in float32 or wider; differentiable once.

    Args:
        logits (Tensor): ``[B, N, h, w]``.
        label (Tensor): Classes of any size, larger or smaller, int64, ``[B, H, W]``.
        class_weight (Tensor | Sequence[float] | None): Weights of the classes, ``[N]``.
            Default: None.
        ignore_index (int): Value of pixels without a label. Default: 255.
        avg_non_ignore (bool): Divide by the number of labelled pixels, not of all. With class
            weights the divisor is always the weights' sum over labelled pixels. Default: False.
        align_corners (bool): That of the resizing. Default: False.
        with_accuracy (bool): Also find each pixel's best class. Default: False.

    Returns:
        tuple[Tensor, Tensor | None]: The mean loss, a scalar, and the share of labelled pixels that
        are right, in percent, ``[1]``, or None.

    Example:
        >>> logits = torch.randn(2, 6, 8, 8, requires_grad=True)
        >>> loss, _ = upsampled_cross_entropy(logits, torch.zeros(2, 60, 61).long())
        >>> loss.backward()
    """
    logits = widen(logits)
    labelled = label != ignore_index
    weights = labelled.to(logits.dtype)  # [B, H, W]
    if class_weight is not None:
        class_weight = torch.as_tensor(class_weight, dtype=logits.dtype, device=logits.device)
        weights = weights * class_weight.take(label.masked_fill(~labelled, 0))
    averages_all = class_weight is None and not avg_non_ignore
    divisor = label.numel() if averages_all else weights.sum()
    total, correct = _UpsampledCrossEntropy.apply(
        logits,
        label.masked_fill(~labelled, -1),
        weights,
        align_corners,
        with_accuracy,
        logits.requires_grad and torch.is_grad_enabled(),
    )
    epsilon = torch.finfo(torch.float32).eps
    accuracy = 100 * (correct + epsilon) / (labelled.sum() + epsilon) if with_accuracy else None
    return total / (divisor + epsilon), accuracy


class _UpsampledCrossEntropy(torch.autograd.Function):
    """The weighted sum over pixels, whose gradient exists before it is asked for."""

    @staticmethod
    def forward(ctx, *arguments):
        total, correct, gradient = _tiled_cross_entropy(*arguments)
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(correct)
        return total, correct

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_total, _):
        (gradient,) = ctx.saved_tensors
        return grad_total * gradient, None, None, None, None, None


# An operation of its own, so that a compiled graph holds one node and not one for each tile.
@torch.library.custom_op('mmseg_ctx::tiled_cross_entropy', mutates_args=())
def _tiled_cross_entropy(
    logits: torch.Tensor,
    label: torch.Tensor,
    weights: torch.Tensor,
    align_corners: bool,
    with_accuracy: bool,
    with_gradient: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the weighted sum, the number of right pixels ``[1]`` and the logits' gradient.

    A label of -1 is of no class; its weight is 0.
    """
    with autocast_off(logits):
        batch, classes, height, width = logits.shape
        rows = Interpolation.identity(height, logits).resize(label.shape[1], align_corners)
        columns = Interpolation.identity(width, logits).resize(label.shape[2], align_corners)
        tile_rows, tile_columns = tile_size(batch * classes, *label.shape[1:], label.device)
        pixels = logits.permute(0, 2, 3, 1).contiguous()  # [B, h, w, N]
        gradient = torch.zeros_like(pixels) if with_gradient else None
        total, correct = logits.new_zeros(()), label.new_zeros(1)
        for top in range(0, label.shape[1], tile_rows):
            row_matrix, source_rows = rows.tile(top, tile_rows)
            band = _mix_rows(row_matrix, pixels[:, source_rows])  # [B, R, w, N]
            band_gradient = torch.zeros_like(band) if with_gradient else None
            for left in range(0, label.shape[2], tile_columns):
                column_matrix, source_columns = columns.tile(left, tile_columns)
                area = (..., slice(top, top + tile_rows), slice(left, left + tile_columns))
                tile = column_matrix @ band[:, :, source_columns]  # [B, R, S, N]
                tile_total, tile_correct = _cross_entropy_(
                    tile, label[area], weights[area], with_accuracy
                )
                total += tile_total
                correct += tile_correct
                if with_gradient:
                    band_gradient[:, :, source_columns] += column_matrix.t() @ tile
            if with_gradient:
                gradient[:, source_rows] += _mix_rows(row_matrix.t(), band_gradient)
        if not with_gradient:
            return total, correct, logits.new_zeros(0)
        return total, correct, gradient.permute(0, 3, 1, 2).contiguous()


@_tiled_cross_entropy.register_fake
def _(logits, label, weights, align_corners, with_accuracy, with_gradient):
    gradient = logits.new_empty(logits.shape if with_gradient else (0,))
    return logits.new_empty(()), label.new_empty(1), gradient


def _cross_entropy_(logits, label, weights, with_accuracy):
    """Return the weighted sum and the right pixels; put the sum's gradient into ``logits``."""
    target = label.clamp(min=0)[..., None]  # [B, R, S, 1]
    weights = weights[..., None]
    target_logits = logits.gather(3, target)
    correct = (logits.argmax(dim=3) == label).sum() if with_accuracy else 0
    maximum = logits.amax(dim=3, keepdim=True)
    exponentials = logits.sub_(maximum).exp_()
    normaliser = exponentials.sum(dim=3, keepdim=True)
    total = (weights * (normaliser.log() + maximum - target_logits)).sum()
    exponentials.mul_(weights / normaliser).scatter_add_(3, target, -weights)
    return total, correct


def _mix_rows(matrix, pixels):
    """Multiply the rows of ``pixels`` ``[B, h, w, N]`` by ``matrix``."""
    return (matrix @ pixels.flatten(2)).unflatten(2, pixels.shape[2:])

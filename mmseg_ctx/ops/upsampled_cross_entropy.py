"""Upsampling and cross-entropy as one operation, without logits of the label's size."""

import torch

from mmseg_ctx.ops.interpolation import Interpolation, tile_size
from mmseg_ctx.ops.precision import at_least_float32, autocast_off


def upsampled_cross_entropy(
    logits,
    label,
    class_weight=None,
    ignore_index=255,
    avg_non_ignore=False,
    align_corners=False,
    with_accuracy=False,
    pixel_weight=None,
    reduction='mean',
):
    """Compute the cross-entropy of logits that are resized bilinearly to the label's size.

    The result equals that of MMSegmentation's ``resize`` and ``CrossEntropyLoss``. The same pass
    computes the gradient of the small logits, tile by tile, so memory for logits does not grow with
    the label. Computed in float32 or wider. It can be differentiated once.

    Args:
        logits (Tensor): ``[B, N, h, w]``.
        label (Tensor): Classes of any size, larger or smaller, int64, ``[B, H, W]``.
        class_weight (Tensor | Sequence[float] | None): Weights of the classes, ``[N]``.
            Default: None.
        ignore_index (int): Value of pixels without a label. Default: 255.
        avg_non_ignore (bool): Whether to divide by the number of labelled pixels, not of all
            pixels. With class weights, the divisor is always the sum of the labelled pixels'
            weights. (MMSegmentation 1.2.2 adds the weights of ignored pixels if the ignore index
            is a class, and fails if it is none; later versions do neither.) Default: False.
        align_corners (bool): ``align_corners`` of the resizing. Default: False.
        with_accuracy (bool): Whether to compute the accuracy, too. Default: False.
        pixel_weight (Tensor | None): Factor of each pixel's loss, ``[B, H, W]``. As in
            MMSegmentation, the divisor does not depend on it. Default: None.
        reduction (str): ``'mean'``, or ``'sum'``, which does not divide. Default: ``'mean'``.

    Returns:
        tuple[Tensor, Tensor | None]: The loss, a scalar; and with ``with_accuracy`` the accuracy
        over labelled pixels in percent, ``[1]``, otherwise None.

    Raises:
        RuntimeError: ``class_weight`` does not have N entries, or the backward pass is run with
            ``create_graph=True``.
        ValueError: ``label`` and ``logits`` differ in their number of images.

    Example:
        >>> logits = torch.randn(2, 6, 8, 8, requires_grad=True)
        >>> loss, _ = upsampled_cross_entropy(logits, torch.zeros(2, 60, 61).long())
        >>> loss.backward()
    """
    if len(label) != len(logits):
        raise ValueError(f'label must have {len(logits)} images like logits, got {len(label)}')
    logits = at_least_float32(logits)
    labelled = label != ignore_index
    weights = labelled.to(logits.dtype)  # [B, H, W]
    if class_weight is not None:
        weights = weights * class_weights_of_pixels(class_weight, logits, label, labelled)
    averages_all = class_weight is None and not avg_non_ignore
    divisor = label.numel() if averages_all else weights.sum()
    if pixel_weight is not None:
        weights = weights * pixel_weight
    total, correct = _UpsampledCrossEntropy.apply(
        logits,
        label.masked_fill(~labelled, -1),
        weights,
        align_corners,
        with_accuracy,
        logits.requires_grad and torch.is_grad_enabled(),
    )
    epsilon = torch.finfo(torch.float32).eps
    loss = total if reduction == 'sum' else total / (divisor + epsilon)
    accuracy = 100 * (correct + epsilon) / (labelled.sum() + epsilon) if with_accuracy else None
    return loss, accuracy


def upsampled_pixel_losses(logits, label, ignore_index=255, align_corners=False):
    """Compute each pixel's cross-entropy for logits that are resized to the label's size.

    Args:
        logits (Tensor): ``[B, N, h, w]``.
        label (Tensor): Classes of any size, int64, ``[B, H, W]``.
        ignore_index (int): Value of pixels without a label. Default: 255.
        align_corners (bool): ``align_corners`` of the resizing. Default: False.

    Returns:
        Tensor: ``[B, H, W]``, float32 or wider, without a gradient. Pixels without a label have the
        loss of class 0.
    """
    label = label.masked_fill(label == ignore_index, 0)
    return _tiled_pixel_losses(at_least_float32(logits.detach()), label, align_corners)


def class_weights_of_pixels(class_weight, logits, label, labelled):
    """Return the weight of each pixel's class.

    Args:
        class_weight (Tensor | Sequence[float]): Weights of the classes, ``[N]``.
        logits (Tensor): ``[B, N, h, w]``. The result has their type and device.
        label (Tensor): Classes of any size, int64, ``[B, H, W]``.
        labelled (Tensor): Whether each pixel has a label, bool, ``[B, H, W]``.

    Returns:
        Tensor: ``[B, H, W]``. Pixels without a label have the weight of class 0.

    Raises:
        RuntimeError: ``class_weight`` does not have N entries.
    """
    class_weight = torch.as_tensor(class_weight, dtype=logits.dtype, device=logits.device)
    if len(class_weight) != logits.size(1):
        # Let PyTorch's cross_entropy raise its own error.
        pixel = logits.detach()[:, :, :1, :1]
        torch.nn.functional.cross_entropy(pixel, label.new_zeros(len(label), 1, 1), class_weight)
    return class_weight.take(label.masked_fill(~labelled, 0))


class _UpsampledCrossEntropy(torch.autograd.Function):
    """The weighted sum over pixels. The forward pass computes the gradient, too."""

    @staticmethod
    def forward(ctx, *arguments):
        total, correct, gradient = _tiled_cross_entropy(*arguments)
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(correct)
        return total, correct

    @staticmethod
    def backward(ctx, grad_total, _):
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            # To autograd the gradient is a constant, so a second derivative would silently be zero.
            raise RuntimeError(
                'upsampled_cross_entropy can be differentiated once: no create_graph'
            )
        (gradient,) = ctx.saved_tensors
        return grad_total * gradient, None, None, None, None, None


# These are custom operations so that a compiled graph has one node for all tiles.
@torch.library.custom_op('mmseg_ctx::tiled_cross_entropy', mutates_args=())
def _tiled_cross_entropy(
    logits: torch.Tensor,
    label: torch.Tensor,
    weights: torch.Tensor,
    align_corners: bool,
    with_accuracy: bool,
    with_gradient: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the weighted sum, the number of right pixels ``[1]``, and the gradient of the logits.

    Pixels without a label have the label -1 and the weight 0.
    """
    total, correct = logits.new_zeros(()), label.new_zeros(1)

    def visit(area, tile):
        nonlocal total, correct
        target = label[area].clamp(min=0)[..., None]  # [B, R, S, 1]
        weight = weights[area][..., None]
        target_logits = tile.gather(3, target)
        if with_accuracy:
            maximum, best = tile.max(dim=3, keepdim=True)
            correct += (best[..., 0] == label[area]).sum()
        else:
            maximum = tile.amax(dim=3, keepdim=True)
        exponentials = tile.sub_(maximum).exp_()  # [B, R, S, N]
        normaliser = exponentials.sum(dim=3, keepdim=True)
        total += (weight * (normaliser.log() + maximum - target_logits)).sum()
        if with_gradient:
            # In place: the tile becomes its gradient, weight * (softmax - one-hot label).
            exponentials.mul_(weight / normaliser).scatter_add_(3, target, -weight)

    gradient = _visit_tiles(visit, logits, label.shape[1:], align_corners, with_gradient)
    return total, correct, gradient if with_gradient else logits.new_zeros(0)


@_tiled_cross_entropy.register_fake
def _(logits, label, weights, align_corners, with_accuracy, with_gradient):
    gradient = logits.new_empty(logits.shape if with_gradient else (0,))
    return logits.new_empty(()), label.new_empty(1), gradient


@torch.library.custom_op('mmseg_ctx::tiled_pixel_losses', mutates_args=())
def _tiled_pixel_losses(
    logits: torch.Tensor, label: torch.Tensor, align_corners: bool
) -> torch.Tensor:
    """Return each pixel's cross-entropy, ``[B, H, W]``."""
    losses = logits.new_empty(label.shape)

    def visit(area, tile):
        target = label[area][..., None]  # [B, R, S, 1]
        losses[area] = -tile.log_softmax(dim=3).gather(3, target)[..., 0]

    _visit_tiles(visit, logits, label.shape[1:], align_corners)
    return losses


@_tiled_pixel_losses.register_fake
def _(logits, label, align_corners):
    return logits.new_empty(label.shape)


def _visit_tiles(visit, logits, size, align_corners, with_gradient=False):
    """Call ``visit`` with each tile of the resized logits.

    Args:
        visit (Callable): Called with the tile's index into ``[B, H, W]``, and the logits of its R
            rows and S columns, ``[B, R, S, N]``. If ``with_gradient``, it replaces the logits in
            place by their gradient.
        logits (Tensor): ``[B, N, h, w]``.
        size (tuple[int, int]): H and W.
        align_corners (bool): ``align_corners`` of the resizing.
        with_gradient (bool): Whether to return the gradient of ``logits``. Default: False.

    Returns:
        Tensor | None: The gradient ``[B, N, h, w]``.
    """
    with autocast_off(logits):
        batch, classes, height, width = logits.shape
        rows = Interpolation.identity(height, logits).resize(size[0], align_corners)
        columns = Interpolation.identity(width, logits).resize(size[1], align_corners)
        tile_rows, tile_columns = tile_size(batch * classes, *size, logits.device)
        # Minus infinity times a weight of 0 would be NaN, so it becomes a large negative number.
        # Infinity and NaN stay, since gradient scaling recognises a bad step by them.
        smallest = torch.finfo(logits.dtype).min / 2
        # A copy: where nothing is resized, tiles are views of it, and visit writes to them.
        pixels = logits.clamp(min=smallest).permute(0, 2, 3, 1).contiguous()  # [B, h, w, N]
        gradient = torch.zeros_like(pixels) if with_gradient else None
        lefts = range(0, size[1], tile_columns)
        column_tiles = [(left, *_matrix_and_sources(columns, left, tile_columns)) for left in lefts]
        for top in range(0, size[0], tile_rows):
            row_matrix, source_rows = _matrix_and_sources(rows, top, tile_rows)
            band = _mix_rows(row_matrix, pixels[:, source_rows])  # [B, R, w, N]
            band_gradient = torch.zeros_like(band) if with_gradient else None
            for left, column_matrix, source_columns in column_tiles:
                tile = _mix_columns(column_matrix, band[:, :, source_columns])  # [B, R, S, N]
                visit((..., slice(top, top + tile_rows), slice(left, left + tile_columns)), tile)
                if with_gradient:
                    band_gradient[:, :, source_columns] += _mix_columns(
                        column_matrix, tile, transposed=True
                    )
            if with_gradient:
                gradient[:, source_rows] += _mix_rows(row_matrix, band_gradient, transposed=True)
    return gradient.permute(0, 3, 1, 2).contiguous() if with_gradient else None


def _matrix_and_sources(side, start, length):
    """Return an interpolation's ``tile``, with None for the matrix where nothing is resized."""
    if side.size == len(side.first):
        return None, slice(start, start + length)
    return side.tile(start, length)


def _mix_rows(matrix, pixels, transposed=False):
    """Multiply the rows of ``pixels`` ``[B, h, w, N]`` by a matrix.

    The transposed matrix takes the gradient of the result back to the pixels.
    """
    mixed = _mix_columns(matrix, pixels.flatten(2), transposed)
    return mixed.unflatten(2, pixels.shape[2:])


def _mix_columns(matrix, pixels, transposed=False):
    """The same for the columns of ``pixels``."""
    if matrix is None:
        return pixels
    return (matrix.mT if transposed else matrix) @ pixels

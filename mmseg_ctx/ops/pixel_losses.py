"""Each pixel's cross-entropy, from logits that are resized tile by tile.

No tensor of N classes has the label's size: the forward pass keeps one number for each pixel, the
logarithm of its softmax's denominator, and the backward pass computes each tile again.
"""

import torch
import torch.nn.functional as F

from mmseg_ctx.ops.interpolation import Interpolation, tile_size
from mmseg_ctx.ops.kernel_choice import is_transformed, triton_kernels_for
from mmseg_ctx.ops.labels import check_labels, labels_message, mask_ignored
from mmseg_ctx.ops.precision import at_least_float32, autocast_off, exact_matmul
from mmseg_ctx.ops.threads import in_threads

EPSILON = torch.finfo(torch.float32).eps  # MMSegmentation adds it to divisors.


def pixel_losses(logits, label, align_corners=False, ignore_index=255, with_best=True):
    """Compute the cross-entropy and the best class of each pixel.

    The losses equal those of ``F.cross_entropy(F.interpolate(logits, (H, W), mode='bilinear'),
    label, reduction='none')``, computed in float32 or wider. Second derivatives,
    ``torch.func``'s transforms and forward-mode differentiation make logits of the label's size.

    Args:
        logits (Tensor): Small logits, ``[B, N, h, w]``.
        label (Tensor): Classes, ``[B, H, W]``, uint8 or signed integers. H and W may be larger or
            smaller than h and w. Other values are not looked for: see ``check_labels``.
        align_corners (bool): ``align_corners`` of the resizing. Default: False.
        ignore_index (int | None): Label of pixels without a class; None if all pixels have one.
            Default: 255.
        with_best (bool): Whether to find the best classes, which takes a tenth of the time.
            Default: True.

    Returns:
        tuple[Tensor, Tensor]: The losses ``[B, H, W]``, 0 for pixels without a class; and the class
        with the largest logit at each pixel, integers of ``compact_label``'s type, ``[B, H, W]``;
        without ``with_best``, it is empty.

    Raises:
        TypeError: ``label`` has no integer type.
        ValueError: The shapes do not fit together.

    Example:
        >>> logits = torch.randn(2, 6, 8, 8, requires_grad=True)
        >>> losses, best = pixel_losses(logits, torch.zeros(2, 60, 61).long())
        >>> losses.mean().backward()
    """
    _check_inputs(logits, label)
    label = compact_label(label, logits.size(1), ignore_index)
    if is_transformed(logits):
        return _at_full_size(logits, label, align_corners)
    losses, _, best = _PixelLosses.apply(logits, label, align_corners, with_best)
    return losses, best


def _at_full_size(logits, label, align_corners):
    """Return losses and best classes by operations of PyTorch, which it can transform."""
    full = F.interpolate(
        _finite_below(logits), label.shape[1:], mode='bilinear', align_corners=align_corners
    )
    losses = F.cross_entropy(full, label.long(), ignore_index=-1, reduction='none')
    return losses, full.argmax(1).to(label.dtype)


def _differentiable_gradient(grad, logits, label, align_corners):
    """Return the gradient of the logits for ``create_graph``."""

    def losses(logits):
        return _at_full_size(logits, label, align_corners)[0]

    return torch.func.vjp(losses, logits)[1](grad)[0]


def _finite_below(logits):
    """Return logits in float32 or wider, large negative numbers in the place of minus infinity.

    Minus infinity times a weight of 0 would be NaN. Infinity and NaN stay, since gradient scaling
    recognises a bad step by them.
    """
    logits = at_least_float32(logits)
    return logits.clamp(min=torch.finfo(logits.dtype).min / 2)


def _check_inputs(logits, label):
    if label.is_floating_point() or label.dtype == torch.bool:
        raise TypeError(f'label must be integers, got {label.dtype}')
    if logits.ndim != 4 or label.ndim != 3 or len(label) != len(logits):
        raise ValueError(
            'logits [B, N, h, w] and label [B, H, W] must have the same B, got '
            f'{list(logits.shape)} and {list(label.shape)}'
        )


def compact_label(label, num_classes, ignore_index):
    """Return labels that need little memory while they wait for the backward pass.

    They are int16, or int64 if N or ``ignore_index`` is above 32767; -1 is a pixel without a class.
    Labels that are so already are returned as they are.
    """
    dtype = torch.int16 if max(num_classes, abs(ignore_index or 0)) < 2**15 else torch.int64
    return mask_ignored(label.to(dtype), None if ignore_index == -1 else ignore_index)


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
    loss_weight=1.0,
    epsilon=EPSILON,
):
    """Compute MMSegmentation's ``CrossEntropyLoss`` of logits that are resized to the label's size.

    It does not wait for a device. Gradients reach ``logits``, ``class_weight`` and
    ``pixel_weight``. Where Triton's kernels serve the device, the mean or sum without
    ``pixel_weight`` is computed by kernels alone: with its gradient, they are three.

    Args:
        logits (Tensor): Small logits, ``[B, N, h, w]``.
        label (Tensor): Classes or ``ignore_index``, ``[B, H, W]``, uint8 or signed integers.
        class_weight (Tensor | Sequence[float] | None): Weights of the classes, ``[N]``.
            Default: None.
        ignore_index (int | None): Label of pixels without a class. Default: 255.
        avg_non_ignore (bool): Whether to divide by the number of labelled pixels, not of all
            pixels. With class weights, the divisor is always the sum of the labelled pixels'
            weights. Default: False.
        align_corners (bool): ``align_corners`` of the resizing. Default: False.
        with_accuracy (bool): Whether to compute the accuracy, too. Default: False.
        pixel_weight (Tensor | Callable | None): Factor of each pixel's loss, ``[B, H, W]``, or a
            function that returns it for the losses, without gradients, and labels, -1 for pixels
            without a class, both ``[B, H, W]``. As in MMSegmentation, the divisor does not depend
            on it. Default: None.
        reduction (str): ``'mean'``, ``'sum'`` or ``'none'``. Default: ``'mean'``.
        loss_weight (float): Factor of the result. Default: 1.0.
        epsilon (float): Added to the divisor. Default: MMSegmentation's, 2**-23.

    Returns:
        tuple[Tensor, Tensor | None]: The loss, a scalar, or ``[B, H, W]`` for ``'none'``; and with
        ``with_accuracy`` the accuracy over labelled pixels in percent, ``[1]``, otherwise None.

    Raises:
        TypeError: ``label`` has no integer type.
        ValueError: A shape, ``class_weight`` or ``reduction`` is wrong, or, on the CPU, a label is
            neither a class nor ``ignore_index``.
        RuntimeError: On an accelerator, a label is neither; see ``check_labels``.
    """
    _check_inputs(logits, label)
    classes = logits.size(1)
    if class_weight is not None:
        if len(class_weight) != classes:
            raise ValueError(
                f'class_weight must have a weight for each of {classes} classes, '
                f'got {len(class_weight)}'
            )
        dtype = torch.promote_types(logits.dtype, torch.float32)
        class_weight = torch.as_tensor(class_weight, dtype=dtype, device=logits.device).contiguous()
    fused = pixel_weight is None and reduction in ('mean', 'sum')
    if fused and _reducing_kernels(logits, class_weight) is not None:
        divisor = None if avg_non_ignore or class_weight is not None else label.numel()
        if reduction == 'sum':
            divisor, epsilon = 1, 0.0
        options = ignore_index, align_corners, divisor, epsilon, loss_weight
        loss, accuracy, valid = _ReducedLosses.apply(logits, label, class_weight, *options)
        torch._assert_async(valid, labels_message(classes, ignore_index))
        return loss, accuracy if with_accuracy else None
    if reduction not in ('mean', 'sum', 'none'):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    check_labels(label, classes, ignore_index)
    label = compact_label(label, classes, ignore_index)
    losses, best = pixel_losses(logits, label, align_corners, -1, with_best=with_accuracy)
    labelled = label >= 0
    accuracy = _accuracy(best, label, labelled) if with_accuracy else None
    if callable(pixel_weight):
        pixel_weight = pixel_weight(losses.detach(), label)
    divisor = labelled.sum() if avg_non_ignore else label.numel()
    if class_weight is not None:
        weights = class_weight[label.clamp(min=0).long()] * labelled
        losses, divisor = losses * weights, weights.sum()
    if pixel_weight is not None:
        losses = losses * pixel_weight
    if reduction != 'none':
        losses = losses.sum()
    if reduction == 'mean':
        losses = losses / (divisor + epsilon)
    return loss_weight * losses, accuracy


def _accuracy(best, label, labelled):
    return (100 * ((best == label).sum() + EPSILON) / (labelled.sum() + EPSILON))[None]


def _reducing_kernels(logits, class_weight):
    """Return the kernels, or None where PyTorch has to look into the loss."""
    learned = class_weight is not None and class_weight.requires_grad
    opaque = not (learned or torch.compiler.is_compiling() or is_transformed(logits))
    return triton_kernels_for(logits) if opaque else None


class _ReducedLosses(torch.autograd.Function):
    """The loss, the accuracy, and whether all labels are valid; see ``reduced_losses``."""

    @staticmethod
    def forward(ctx, logits, label, class_weight, ignore_index, align_corners, *options):
        ctx.ignore_index, ctx.align_corners = ignore_index, align_corners
        # No label is the smallest integer.
        ignore_index = -(2**63) if ignore_index is None else ignore_index
        loss, accuracy, valid, *kept = triton_kernels_for(logits).reduced_losses(
            logits, label, class_weight, ignore_index, align_corners, *options
        )
        ctx.save_for_backward(logits, label, *kept, class_weight)
        ctx.mark_non_differentiable(accuracy, valid)
        ctx.set_materialize_grads(False)  # which would take launches
        return loss, accuracy, valid

    @staticmethod
    def backward(ctx, grad, *_):
        if grad is None:
            return (None,) * 8
        logits, label, normaliser, scale, class_weight = ctx.saved_tensors
        if torch.is_grad_enabled():
            label = compact_label(label, logits.size(1), ctx.ignore_index)
            grad = (grad * scale).expand(label.shape)
            if class_weight is not None:
                grad = grad * class_weight[label.clamp(min=0).long()]
            return _differentiable_gradient(grad, logits, label, ctx.align_corners), *(None,) * 7
        gradient = triton_kernels_for(logits).pixel_losses_backward(
            grad, logits, label, normaliser, ctx.align_corners, scale, class_weight
        )
        return gradient, *(None,) * 7


class _PixelLosses(torch.autograd.Function):
    """Losses, log-normalisers and best classes ``[B, H, W]``; the label is ``compact_label``'s.

    The two custom operations below do the work, so that a compiled graph has a node for each pass.
    """

    @staticmethod
    def forward(ctx, logits, label, align_corners, with_best):
        losses, normaliser, best = _forward(logits, label, align_corners, with_best)
        ctx.align_corners = align_corners
        ctx.save_for_backward(logits, label, normaliser)
        ctx.mark_non_differentiable(normaliser, best)
        ctx.set_materialize_grads(False)  # which would make zeros of the label's size
        return losses, normaliser, best

    @staticmethod
    def backward(ctx, grad, *_):
        if grad is None:
            return None, None, None, None
        logits, label, normaliser = ctx.saved_tensors
        if torch.is_grad_enabled():
            gradient = _differentiable_gradient(grad, logits, label, ctx.align_corners)
        else:
            gradient = _backward(grad, logits, label, normaliser, ctx.align_corners)
        return gradient, None, None, None


@torch.library.custom_op('mmseg_ctx::pixel_losses', mutates_args=())
def _forward(
    logits: torch.Tensor, label: torch.Tensor, align_corners: bool, with_best: bool = True
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    kernels = triton_kernels_for(logits)
    if kernels is not None:
        losses, normaliser, best = kernels.pixel_losses(logits, label, align_corners)
        return losses, normaliser, best if with_best else best.new_empty(0)
    losses, normaliser, best = _empty_results(logits, label, align_corners, with_best)

    def visit(area, tile):
        target = label[area].clamp(min=0).long()[..., None]  # [B, R, S, 1]
        right = tile.gather(3, target)
        if with_best:
            maximum, index = tile.max(dim=3, keepdim=True)
            best[area] = index[..., 0]
        else:
            maximum = tile.amax(dim=3, keepdim=True)
        total = tile.sub_(maximum).exp_().sum(dim=3, keepdim=True).log_().add_(maximum)
        normaliser[area] = total[..., 0]
        losses[area] = (total - right)[..., 0].masked_fill_(label[area] < 0, 0)

    _visit_tiles(visit, logits, label.shape[1:], align_corners)
    return losses, normaliser, best


@_forward.register_fake
def _empty_results(logits, label, align_corners, with_best=True):
    losses = at_least_float32(logits[:0]).new_empty(label.shape)
    best = label.new_empty(label.shape if with_best else 0)
    return losses, torch.empty_like(losses), best


@torch.library.custom_op('mmseg_ctx::pixel_losses_backward', mutates_args=())
def _backward(
    grad: torch.Tensor,
    logits: torch.Tensor,
    label: torch.Tensor,
    normaliser: torch.Tensor,
    align_corners: bool,
) -> torch.Tensor:
    """Return the gradient of the logits: ``grad * (softmax - one-hot label)``, resized back."""
    kernels = triton_kernels_for(logits)
    if kernels is not None:
        return kernels.pixel_losses_backward(grad, logits, label, normaliser, align_corners)
    grad = grad.masked_fill(label < 0, 0)

    def visit(area, tile):
        weight, target = grad[area][..., None], label[area].clamp(min=0).long()[..., None]
        tile.sub_(normaliser[area][..., None]).exp_().mul_(weight).scatter_add_(3, target, -weight)

    return _visit_tiles(visit, logits, label.shape[1:], align_corners, with_gradient=True)


@_backward.register_fake
def _(grad, logits, label, normaliser, align_corners):
    return torch.empty_like(logits, memory_format=torch.contiguous_format)


def _visit_tiles(visit, logits, size, align_corners, with_gradient=False):
    """Call ``visit`` with each tile's index into ``[B, H, W]``, and its logits ``[B, R, S, N]``.

    With ``with_gradient``, ``visit`` replaces a tile's logits by their gradient. The gradient of
    ``logits`` is returned.
    """
    batch, classes, height, width = logits.shape
    pixels = _finite_below(logits).permute(0, 2, 3, 1).contiguous()  # [B, h, w, N]
    like = pixels[:0]
    rows = Interpolation.identity(height, like).resize(size[0], align_corners)
    columns = Interpolation.identity(width, like).resize(size[1], align_corners)
    tile_rows, tile_columns = tile_size(max(batch, 1) * classes, *size, logits.device)
    lefts = range(0, size[1], tile_columns)
    column_tiles = [(left, *columns.tile(left, tile_columns)) for left in lefts]

    def visit_bands(tops):
        sources = rows.tile(tops[0], tops[-1] - tops[0] + tile_rows)[1]
        gradient = torch.zeros_like(pixels[:, sources]) if with_gradient else None
        for top in tops:
            matrix, source_rows = rows.tile(top, tile_rows)
            band = _mixed_rows(matrix, pixels[:, source_rows])  # [B, R, w, N]
            band_gradient = torch.zeros_like(band) if with_gradient else None
            for left, column_matrix, source_columns in column_tiles:
                tile = column_matrix @ band[:, :, source_columns]  # [B, R, S, N]
                visit((..., slice(top, top + tile_rows), slice(left, left + tile_columns)), tile)
                if with_gradient:
                    band_gradient[:, :, source_columns].add_(column_matrix.mT @ tile)
            if with_gradient:
                mixed = _mixed_rows(matrix.mT, band_gradient)
                start = source_rows.start - sources.start
                gradient[:, start : start + mixed.size(1)].add_(mixed)
        return sources, gradient

    with autocast_off(logits), exact_matmul():
        parts = in_threads(visit_bands, range(0, size[0], tile_rows), logits.device)
    if not with_gradient:
        return None
    gradient = torch.zeros_like(pixels)
    for sources, part in parts:  # in order, so that the sum does not depend on the threads
        gradient[:, sources].add_(part)
    return gradient.permute(0, 3, 1, 2).to(logits.dtype, memory_format=torch.contiguous_format)


def _mixed_rows(matrix, pixels):
    """Multiply the rows of ``pixels`` ``[B, h, w, N]`` by a matrix."""
    return (matrix @ pixels.flatten(2)).unflatten(2, pixels.shape[2:])

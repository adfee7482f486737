"""Each pixel's cross-entropy, from logits that are resized tile by tile.

No tensor of N classes has the label's size: the forward pass keeps one number for each pixel, the
logarithm of its softmax's denominator, and the backward pass computes each tile again.
"""

import torch
import torch.nn.functional as F

from mmseg_ctx.ops.interpolation import Interpolation, tile_size
from mmseg_ctx.ops.kernel_choice import triton_kernels_for
from mmseg_ctx.ops.labels import check_labels, mask_ignored
from mmseg_ctx.ops.precision import at_least_float32, autocast_off, exact_matmul
from mmseg_ctx.ops.threads import in_threads

EPSILON = torch.finfo(torch.float32).eps  # MMSegmentation adds it to divisors.


def pixel_losses(logits, label, align_corners=False, ignore_index=255, with_best=True):
    """Compute the cross-entropy and the best class of each pixel.

    The losses equal those of ``F.cross_entropy(F.interpolate(logits, (H, W), mode='bilinear'),
    label, reduction='none')``, computed in float32 or wider. They can be differentiated once, in
    reverse or forward mode, and work inside ``torch.func``'s transforms.

    Args:
        logits (Tensor): Small logits, ``[B, N, h, w]``.
        label (Tensor): Classes, ``[B, H, W]``, integers of any type. H and W may be larger or
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
    if logits.ndim != 4 or label.ndim != 3 or len(label) != len(logits):
        raise ValueError(
            'logits [B, N, h, w] and label [B, H, W] must have the same B, got '
            f'{list(logits.shape)} and {list(label.shape)}'
        )
    # PyTorch's compiler accepts no forward-mode rule of a Function.
    function = _PixelLosses if torch.compiler.is_compiling() else _PixelLossesWithTangents
    label = compact_label(label, logits.size(1), ignore_index)
    losses, _, best = function.apply(logits, label, align_corners, with_best)
    return losses, best


def compact_label(label, num_classes, ignore_index):
    """Return labels that need little memory while they wait for the backward pass.

    Args:
        label (Tensor): Classes or ``ignore_index``, ``[B, H, W]``, integers of any type.
        num_classes (int): N.
        ignore_index (int | None): Label of pixels without a class.

    Returns:
        Tensor: Classes, -1 for pixels without one, int16, or int64 if N or ``ignore_index`` is
        above 32767. A label that is one already is returned as it is.

    Raises:
        TypeError: ``label`` has no integer type.
    """
    if label.is_floating_point() or label.dtype == torch.bool:
        raise TypeError(f'label must be integers, got {label.dtype}')
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
):
    """Compute MMSegmentation's ``CrossEntropyLoss`` of logits that are resized to the label's size.

    It does not wait for a device. Gradients reach ``logits``, ``class_weight`` and
    ``pixel_weight``.

    Args:
        logits (Tensor): Small logits, ``[B, N, h, w]``.
        label (Tensor): Classes or ``ignore_index``, ``[B, H, W]``, integers of any type.
        class_weight (Tensor | Sequence[float] | None): Weights of the classes, ``[N]``.
            Default: None.
        ignore_index (int | None): Label of pixels without a class. Default: 255.
        avg_non_ignore (bool): Whether to divide by the number of labelled pixels, not of all
            pixels. With class weights, the divisor is always the sum of the labelled pixels'
            weights. Default: False.
        align_corners (bool): ``align_corners`` of the resizing. Default: False.
        with_accuracy (bool): Whether to compute the accuracy, too. Default: False.
        pixel_weight (Tensor | None): Factor of each pixel's loss, ``[B, H, W]``. As in
            MMSegmentation, the divisor does not depend on it. Default: None.
        reduction (str): ``'mean'``, ``'sum'`` or ``'none'``. Default: ``'mean'``.

    Returns:
        tuple[Tensor, Tensor | None]: The loss, a scalar, or ``[B, H, W]`` for ``'none'``; and with
        ``with_accuracy`` the accuracy over labelled pixels in percent, ``[1]``, otherwise None.

    Raises:
        TypeError: ``label`` has no integer type.
        ValueError: A shape, ``class_weight`` or ``reduction`` is wrong, or, on the CPU, a label is
            neither a class nor ``ignore_index``.
    """
    check_labels(label, logits.size(1), ignore_index)
    label = compact_label(label, logits.size(1), ignore_index)
    losses, best = pixel_losses(logits, label, align_corners, -1, with_best=with_accuracy)
    if class_weight is not None and len(class_weight) != logits.size(1):
        raise ValueError(
            f'class_weight must have a weight for each of {logits.size(1)} classes, '
            f'got {len(class_weight)}'
        )
    loss = reduced_loss(losses, label, class_weight, avg_non_ignore, pixel_weight, reduction)
    return loss, accuracy(best, label) if with_accuracy else None


def reduced_loss(losses, label, class_weight, avg_non_ignore, pixel_weight, reduction):
    """Weigh and reduce the losses of pixels as MMSegmentation's ``CrossEntropyLoss`` does.

    Args:
        losses (Tensor): Losses, 0 for pixels without a class, ``[B, H, W]``.
        label (Tensor): Classes, -1 for pixels without one, ``[B, H, W]``.
        class_weight (Tensor | Sequence[float] | None): See :func:`upsampled_cross_entropy`, as for
            the following arguments.
        avg_non_ignore (bool): Whether to divide by the number of labelled pixels.
        pixel_weight (Tensor | None): Factor of each pixel's loss, ``[B, H, W]``.
        reduction (str): ``'mean'``, ``'sum'`` or ``'none'``.

    Returns:
        Tensor: The loss, a scalar, or ``[B, H, W]`` for ``'none'``.

    Raises:
        ValueError: ``reduction`` is wrong.
    """
    if reduction not in ('mean', 'sum', 'none'):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    divisor = label.numel()
    if avg_non_ignore:
        divisor = (label >= 0).sum()
    if class_weight is not None:
        class_weight = torch.as_tensor(class_weight, dtype=losses.dtype, device=losses.device)
        weights = class_weight[label.clamp(min=0).long()] * (label >= 0)
        losses, divisor = losses * weights, weights.sum()
    if pixel_weight is not None:
        losses = losses * pixel_weight
    if reduction == 'none':
        return losses
    return losses.sum() / (divisor + EPSILON) if reduction == 'mean' else losses.sum()


def accuracy(best, label):
    """Return the share of pixels whose best class is right, as MMSegmentation's ``accuracy`` does.

    Args:
        best (Tensor): The best class of each pixel, ``[B, H, W]``.
        label (Tensor): Classes, -1 for pixels without one, ``[B, H, W]``.

    Returns:
        Tensor: The share of the pixels with a class, in percent, ``[1]``.
    """
    right, labelled = (best == label).sum(), (label >= 0).sum()
    return (100 * (right + EPSILON) / (labelled + EPSILON))[None]


class _PixelLosses(torch.autograd.Function):
    """Losses, log-normalisers and best classes ``[B, H, W]``; the label is ``compact_label``'s.

    The two custom operations below do the work, so that a compiled graph has a node for each pass.
    """

    @staticmethod
    def forward(logits, label, align_corners, with_best):
        return _forward(logits, label, align_corners, with_best)

    @staticmethod
    def setup_context(ctx, inputs, output):
        logits, label, ctx.align_corners, _ = inputs
        _, normaliser, best = output
        ctx.save_for_backward(logits, label, normaliser)
        ctx.save_for_forward(logits, label)
        ctx.mark_non_differentiable(normaliser, best)
        ctx.set_materialize_grads(False)  # which would make zeros of the label's size

    @staticmethod
    def backward(ctx, grad, *_):
        if grad is None:
            return None, None, None, None
        gradient = _PixelLossesBackward.apply(grad, *ctx.saved_tensors, ctx.align_corners)
        return gradient, None, None, None

    @staticmethod
    def vmap(info, in_dims, logits, label, align_corners, with_best):
        # With best classes, since an empty tensor cannot be divided among the batch.
        arguments = logits, label, align_corners, True
        return _with_folded_batch(_PixelLosses, info, in_dims, *arguments)


class _PixelLossesWithTangents(_PixelLosses):
    """With a rule for forward-mode differentiation, which makes the tangent at full size."""

    @staticmethod
    def jvp(ctx, tangent, *_):
        logits, label = ctx.saved_tensors
        options = dict(size=label.shape[1:], mode='bilinear', align_corners=ctx.align_corners)
        change = F.interpolate(at_least_float32(tangent), **options)  # [B, N, H, W]
        full = F.interpolate(at_least_float32(logits), **options)
        expected = (full.softmax(1) * change).sum(1)
        right = change.gather(1, label.clamp(min=0).long()[:, None])[:, 0]
        return (expected - right) * (label >= 0), None, None


class _PixelLossesBackward(torch.autograd.Function):
    @staticmethod
    def forward(grad, logits, label, normaliser, align_corners):
        return _backward(grad, logits, label, normaliser, align_corners)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, _):
        raise RuntimeError('the losses of pixels can be differentiated once, got a second time')

    @staticmethod
    def vmap(info, in_dims, *arguments):
        return _with_folded_batch(_PixelLossesBackward, info, in_dims, *arguments)


def _with_folded_batch(function, info, in_dims, *arguments):
    """Apply a function to tensors ``[B, …]`` of which some have one more dimension, for ``vmap``.

    That dimension becomes part of B.
    """
    folded = []
    for argument, dim in zip(arguments, in_dims, strict=True):
        if isinstance(argument, torch.Tensor):
            if dim is None:
                argument = argument.expand(info.batch_size, *argument.shape)
            else:
                argument = argument.movedim(dim, 0)
            argument = argument.flatten(0, 1)
        folded.append(argument)
    outputs = function.apply(*folded)
    if isinstance(outputs, tuple):
        return tuple(each.unflatten(0, (info.batch_size, -1)) for each in outputs), (0, 0, 0)
    return outputs.unflatten(0, (info.batch_size, -1)), 0


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
    batch, classes, height, width = logits.shape
    like = at_least_float32(logits[:0])
    rows = Interpolation.identity(height, like).resize(size[0], align_corners)
    columns = Interpolation.identity(width, like).resize(size[1], align_corners)
    tile_rows, tile_columns = tile_size(max(batch, 1) * classes, *size, logits.device)
    # Minus infinity times a weight of 0 would be NaN, so it becomes a large negative number.
    # Infinity and NaN stay, since gradient scaling recognises a bad step by them.
    smallest = torch.finfo(like.dtype).min / 2
    # A copy: where nothing is resized, tiles are views of it, and visit writes to them.
    pixels = at_least_float32(logits).clamp(min=smallest)
    pixels = pixels.permute(0, 2, 3, 1).contiguous()  # [B, h, w, N]
    lefts = range(0, size[1], tile_columns)
    column_tiles = [(left, *_matrix_and_sources(columns, left, tile_columns)) for left in lefts]

    def visit_bands(tops):
        sources = _matrix_and_sources(rows, tops[0], tops[-1] - tops[0] + tile_rows)[1]
        gradient = torch.zeros_like(pixels[:, sources]) if with_gradient else None
        for top in tops:
            matrix, source_rows = _matrix_and_sources(rows, top, tile_rows)
            band = _mix_rows(matrix, pixels[:, source_rows])  # [B, R, w, N]
            band_gradient = torch.zeros_like(band) if with_gradient else None
            for left, column_matrix, source_columns in column_tiles:
                tile = _mix_columns(column_matrix, band[:, :, source_columns])  # [B, R, S, N]
                visit((..., slice(top, top + tile_rows), slice(left, left + tile_columns)), tile)
                if with_gradient:
                    mixed = _mix_columns(column_matrix, tile, transposed=True)
                    band_gradient[:, :, source_columns].add_(mixed)
            if with_gradient:
                mixed = _mix_rows(matrix, band_gradient, transposed=True)
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

"""The losses of any decode head without full-size logits.

``BaseDecodeHead.loss_by_feat`` resizes the logits to the label's size, and each of its losses keeps
tensors of that size for the backward pass. If all losses are softmax cross-entropies, this file
computes resizing and cross-entropy as one operation, tile by tile.

Its three parts: what a training step computes, from ``MemoryEfficientLosses`` on; for which heads
it can, from ``why_full_size`` on; how a head gets it, from ``use_memory_efficient_losses`` on.
"""

import torch
from mmseg.models.decode_heads import DAHead, EncHead, IterativeDecodeHead, STDCHead
from mmseg.models.decode_heads.cascade_decode_head import BaseCascadeDecodeHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import CrossEntropyLoss
from mmseg.structures import OHEMPixelSampler
from torch import nn

from mmseg_ctx.ops import (
    at_least_float32,
    check_labels,
    class_weights_of_pixels,
    upsampled_cross_entropy,
    upsampled_pixel_losses,
)
from mmseg_ctx.utils.classes import combined_class

# Heads whose loss and loss_by_feat make no full-size logits themselves, but call BaseDecodeHead's
# loss_by_feat. The heads of this package do the same.
DELEGATING_HEADS = (
    BaseDecodeHead,
    BaseCascadeDecodeHead,
    DAHead,
    EncHead,
    IterativeDecodeHead,
    STDCHead,
)


class MemoryEfficientLosses(BaseDecodeHead):
    """Mixin that replaces ``BaseDecodeHead.loss_by_feat`` in a class that inherits from a head.

    It comes after the head's class and before ``BaseDecodeHead`` in the order of inheritance. So it
    also serves a head whose own ``loss_by_feat`` calls ``super().loss_by_feat``: ``EncHead`` adds a
    loss to its result, ``DAHead`` calls it for several maps.
    """

    def loss_by_feat(self, seg_logits, batch_data_samples):
        """Return the same losses as ``BaseDecodeHead.loss_by_feat``.

        Args:
            seg_logits (Tensor): ``[B, N, h, w]``.
            batch_data_samples (list[SegDataSample]): Samples with labels, ``gt_sem_seg``.

        Returns:
            dict[str, Tensor]: The entries of ``loss_decode``, and ``acc_seg``.
        """
        if why_full_size(self) is not None:
            return super().loss_by_feat(seg_logits, batch_data_samples)
        return _tiled_losses(self, seg_logits, batch_data_samples, with_accuracy=True)


def losses_without_accuracy(head, seg_logits, batch_data_samples):
    """Return the losses of a head's ``loss_decode`` for any logits, without ``acc_seg``.

    Args:
        head (BaseDecodeHead): A head that is also a ``MemoryEfficientLosses``.
        seg_logits (Tensor): ``[B, N, h, w]``.
        batch_data_samples (list[SegDataSample]): Samples with labels, ``gt_sem_seg``.

    Returns:
        dict[str, Tensor]: The losses by name.
    """
    if why_full_size(head) is None:
        return _tiled_losses(head, seg_logits, batch_data_samples, with_accuracy=False)
    losses = BaseDecodeHead.loss_by_feat(head, seg_logits, batch_data_samples)
    losses.pop('acc_seg')
    return losses


def _tiled_losses(head, seg_logits, batch_data_samples, with_accuracy):
    """Return the losses of ``loss_decode`` and, if asked for, ``acc_seg``, as one dict."""
    label = head._stack_batch_gt(batch_data_samples).squeeze(1).long()  # [B, H, W]
    check_labels(label, seg_logits.size(1), head.ignore_index)
    seg_logits = at_least_float32(seg_logits)  # converted once for everything below
    options = dict(ignore_index=head.ignore_index, align_corners=head.align_corners)
    pixel_weight = None
    if head.sampler is not None:
        pixel_weight = _hard_pixels(head, seg_logits, label, options)
    losses, accuracy = {}, None
    for criterion in loss_modules(head):
        loss, correct = upsampled_cross_entropy(
            seg_logits,
            label,
            class_weight=_class_weight(criterion, seg_logits),
            avg_non_ignore=criterion.avg_non_ignore,
            with_accuracy=with_accuracy and accuracy is None,
            pixel_weight=pixel_weight,
            reduction=criterion.reduction,
            **options,
        )
        accuracy = correct if accuracy is None else accuracy
        name = criterion.loss_name
        losses[name] = losses.get(name, 0) + criterion.loss_weight * loss
    if accuracy is not None:
        losses['acc_seg'] = accuracy
    return losses


def _hard_pixels(head, seg_logits, label, options):
    """Return 1 where ``OHEMPixelSampler`` keeps a pixel and 0 elsewhere, ``[B, H, W]``.

    With ``thresh``, it keeps the labelled pixels whose probability of the right class is below
    ``thresh``, and at least about ``min_kept`` pixels an image. Without ``thresh``, it keeps the
    ``min_kept`` pixels an image with the largest losses.
    """
    sampler = head.sampler
    labelled = label != head.ignore_index
    losses = upsampled_pixel_losses(seg_logits, label, **options)  # [B, H, W]
    kept = sampler.min_kept * len(label)
    if sampler.thresh is None:
        total = sum(
            losses * _pixel_factor(criterion, seg_logits, label, labelled)
            for criterion in loss_modules(head)
        )
        total = total.masked_fill(~labelled, -torch.inf).flatten()
        hardest = total.topk(min(kept, total.numel()), sorted=False).indices
        chosen = torch.zeros_like(total).index_fill(0, hardest, 1).view_as(losses)
    else:
        probability = losses.neg().exp()
        ranked = probability.masked_fill(~labelled, torch.inf).flatten().sort().values
        # The pixel that comes after ``kept`` others, or the last labelled one.
        rank = (labelled.sum() - 1).clamp(min=0, max=kept)
        threshold = ranked.index_select(0, rank[None]).clamp(min=sampler.thresh)  # [1]
        chosen = (probability < threshold).to(losses.dtype)
    return chosen * labelled


def _pixel_factor(criterion, seg_logits, label, labelled):
    """Return a loss's factor of each pixel's cross-entropy, ``[B, H, W]`` or a number."""
    weight = _class_weight(criterion, seg_logits)
    if weight is None:
        return criterion.loss_weight
    return criterion.loss_weight * class_weights_of_pixels(weight, seg_logits, label, labelled)


def _class_weight(criterion, like):
    """Return the class weights ``[N]`` on the device of a tensor, or None."""
    if criterion.class_weight is None:
        return None
    if list(criterion.class_weight) != getattr(criterion, 'kept_values', None):  # changed since
        _put_in_buffer(criterion, like.dtype, like.device)
    return criterion.kept_class_weight.to(like.device)


def why_full_size(head):
    """Return why the losses of a head need full-size logits, or None if they do not."""
    if not loss_modules(head):
        return None
    if head.ignore_index is None:
        return 'its ignore_index is None'
    if head.sampler is not None and type(head.sampler) is not OHEMPixelSampler:
        return f'its sampler is {type(head.sampler).__name__}, not OHEMPixelSampler'
    for criterion in loss_modules(head):
        reason = _why_not_tiled(criterion)
        if reason is not None:
            return reason
    return None


def _why_not_tiled(criterion):
    """Return why a loss needs full-size logits, or None if it does not."""
    if type(criterion) is not CrossEntropyLoss:
        return f'its loss is {type(criterion).__name__}, not CrossEntropyLoss'
    if criterion.use_sigmoid or criterion.use_mask:
        return 'its loss is a CrossEntropyLoss of sigmoids, not of a softmax'
    if criterion.reduction not in ('mean', 'sum'):
        return f'the reduction of its loss is {criterion.reduction!r}'
    return None


def loss_modules(head):
    """Return the modules of ``loss_decode`` as a list, empty where a head has none."""
    losses = getattr(head, 'loss_decode', [])
    return list(losses) if isinstance(losses, (list, nn.ModuleList)) else [losses]


def use_memory_efficient_losses(head):
    """Make a head compute its losses without full-size logits, where that is possible.

    The head gets a class of the same name that inherits from its class and from
    ``MemoryEfficientLosses``. Losses, gradients, weights and state dict do not change. The same is
    done to each head inside the head, such as those of ``IterativeDecodeHead``.

    Args:
        head (nn.Module): A decode or auxiliary head.

    Returns:
        str | None: Why the head's losses still make full-size logits; None if they do not.

    Example:
        >>> head = FCNHead(in_channels=32, channels=16, num_classes=5)
        >>> use_memory_efficient_losses(head)
    """
    heads = [part for part in head.modules() if isinstance(part, BaseDecodeHead)]
    if head not in heads:
        return 'it is no BaseDecodeHead'
    reasons = [_own_losses(part) or why_full_size(part) for part in heads]
    for part in heads:
        keep_class_weights(part)
        if not isinstance(part, MemoryEfficientLosses):
            # The class changes in place, since others refer to the head (its sampler, for example).
            part.__class__ = memory_efficient_class(type(part).__name__, type(part))
    return next(filter(None, reasons), None)


def _own_losses(head):
    """Return why a head may compute losses without ``BaseDecodeHead.loss_by_feat``, or None."""
    for name in ('loss', 'loss_by_feat'):
        for cls in type(head).__mro__:
            delegates = cls in DELEGATING_HEADS or cls.__module__.startswith('mmseg_ctx.')
            if name in vars(cls) and not delegates:
                return (
                    f"it has a {name} of its own; only its calls of BaseDecodeHead's loss_by_feat "
                    'are computed without full-size logits'
                )
    return None


def memory_efficient_class(name, *bases):
    """Return a class with these losses; the last of ``bases`` is a head's class."""
    return combined_class(name, *bases, MemoryEfficientLosses)


def keep_class_weights(head):
    """Keep the class weights of a head's losses in buffers, which are not in the state dict.

    ``CrossEntropyLoss`` has them as a list, which it copies to the device in each step; a buffer
    stays on the device. Losses that need full-size logits keep their list.
    """
    for criterion in loss_modules(head):
        if _why_not_tiled(criterion) is None and criterion.class_weight is not None:
            _put_in_buffer(criterion, torch.get_default_dtype(), None)


def _put_in_buffer(criterion, dtype, device):
    """Keep the class weights of a loss in a buffer, and their values, to see a change of them."""
    values = [float(weight) for weight in criterion.class_weight]
    tensor = torch.tensor(values, dtype=dtype, device=device)
    criterion.class_weight = values
    criterion.kept_values = list(values)
    criterion.register_buffer('kept_class_weight', tensor, persistent=False)

"""A decode head's losses without full-size logits and without waiting for a device.

MMSegmentation's ``loss_by_feat`` runs on ``ResizableLogits`` as it is, but it waits for the device
(``accuracy`` and ``avg_non_ignore``). Most heads only compute softmax cross-entropies there: these
are computed here, from each pixel's loss and best class.
"""

from functools import partial

import torch
from mmseg.models.decode_heads.cascade_decode_head import BaseCascadeDecodeHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import CrossEntropyLoss
from mmseg.models.utils import resize
from mmseg.structures import OHEMPixelSampler
from torch import nn

from mmseg_ctx.ops import ResizableLogits, upsampled_cross_entropy


def head_losses(head, *args, **kwargs):
    """Return the losses of a decode head for a batch, as ``head.loss`` does.

    Args:
        head (nn.Module): A decode head.
        *args: Arguments of ``head.loss``: the features, in a cascade the previous head's output,
            the data samples, and ``train_cfg``.
        **kwargs: Further arguments of ``head.loss``.

    Returns:
        dict[str, Tensor]: The losses by name, and ``acc_seg``.
    """
    if kwargs or not _has_plain_loss(head):
        return head.loss(*args, **kwargs)
    *inputs, samples, _ = args
    return losses_by_feat(head, head.forward(*inputs), samples)


def losses_by_feat(head, logits, samples):
    """Return what ``BaseDecodeHead.loss_by_feat`` does for logits ``[B, N, h, w]`` and samples."""
    if not _is_softmax_alone(head, loss_modules(head)):
        return head.loss_by_feat(logits, samples)
    if isinstance(logits, ResizableLogits):
        logits = logits.full('resize')  # makes nothing, unless the head itself has resized them
    label = head._stack_batch_gt(samples).squeeze(1)
    return losses_of_logits(head, logits, label, loss_modules(head))


def _has_plain_loss(head):
    """Return whether ``loss`` and ``loss_by_feat`` of a head are MMSegmentation's base's."""
    loss, replaced = getattr(type(head), 'loss', None), vars(head).keys() & {'loss', 'loss_by_feat'}
    if replaced or loss not in (BaseDecodeHead.loss, BaseCascadeDecodeHead.loss):
        return False
    return type(head).loss_by_feat is BaseDecodeHead.loss_by_feat


def losses_of_logits(head, logits, label, criteria, with_accuracy=True):
    """Return the losses of logits by name, and ``acc_seg`` if it is asked for.

    Args:
        head (BaseDecodeHead): The head, whose ``sampler`` is used, too.
        logits (Tensor): ``[B, N, h, w]``.
        label (Tensor): Classes or ``ignore_index``, ``[B, H, W]``.
        criteria (list[nn.Module]): Losses of ``loss_decode``.
        with_accuracy (bool): Whether to return ``acc_seg``, too, if all losses are softmax
            cross-entropies. Default: True.
    """
    if not _is_softmax_alone(head, criteria):
        return _losses_of_criteria(head, logits, label, criteria)
    hardest = None if head.sampler is None else partial(_hardest, head.sampler, criteria)
    losses = {}
    for criterion in criteria:
        loss, accuracy = upsampled_cross_entropy(
            logits,
            label,
            _class_weight(criterion, logits),
            head.ignore_index,
            criterion.avg_non_ignore,
            head.align_corners,
            with_accuracy,
            hardest,
            criterion.reduction,
            criterion.loss_weight,
        )
        _add(losses, criterion.loss_name, loss)
    if with_accuracy:
        losses['acc_seg'] = accuracy
    return losses


def _add(losses, name, loss):
    """Add a loss to the sum of its name, without an operation where it is the first."""
    losses[name] = losses[name] + loss if name in losses else loss


def _losses_of_criteria(head, logits, label, criteria):
    """Return the losses of any other criteria, which get resizable logits."""
    resized = resize(
        ResizableLogits(logits), label.shape[1:], mode='bilinear', align_corners=head.align_corners
    )
    weight = None if head.sampler is None else head.sampler.sample(resized, label[:, None])
    losses = {}
    for criterion in criteria:
        loss = criterion(resized, label, weight=weight, ignore_index=head.ignore_index)
        _add(losses, criterion.loss_name, loss)
    return losses


def loss_modules(head):
    """Return the modules of ``loss_decode`` as a list."""
    losses = getattr(head, 'loss_decode', [])
    return list(losses) if isinstance(losses, (list, nn.ModuleList)) else [losses]


def _is_softmax_alone(head, criteria):
    """Return whether all losses are softmax cross-entropies, of all or of the hardest pixels."""
    return (
        head.ignore_index is not None
        and (head.sampler is None or type(head.sampler) is OHEMPixelSampler)
        and all(type(each) is CrossEntropyLoss for each in criteria)
        and not any(each.use_sigmoid or each.use_mask for each in criteria)
    )


def _hardest(sampler, criteria, pixels, label):
    """Return 1 where ``OHEMPixelSampler`` keeps a pixel and 0 elsewhere, ``[B, H, W]``.

    With ``thresh``, it keeps the labelled pixels whose probability of the right class is below
    ``thresh``, and at least about ``min_kept`` pixels an image. Without ``thresh``, it keeps the
    ``min_kept`` pixels an image with the largest losses.
    """
    labelled, kept = label >= 0, sampler.min_kept * len(label)
    if sampler.thresh is None:
        losses = 0
        for criterion in criteria:
            weight = _class_weight(criterion, pixels)
            own = pixels if weight is None else pixels * weight[label.clamp(min=0).long()]
            losses = losses + criterion.loss_weight * own
        losses = losses.masked_fill(~labelled, -torch.inf).flatten()
        hardest = losses.topk(min(kept, losses.numel()), sorted=False).indices
        chosen = torch.zeros_like(losses).index_fill(0, hardest, 1).view_as(pixels)
    else:
        probability = pixels.neg().exp()
        ranked = probability.masked_fill(~labelled, torch.inf).flatten().sort().values
        # The pixel that comes after ``kept`` others, or the last labelled one.
        rank = (labelled.sum() - 1).clamp(min=0, max=kept)
        threshold = ranked.index_select(0, rank[None]).clamp(min=sampler.thresh)  # [1]
        chosen = (probability < threshold).to(pixels.dtype)
    return chosen * labelled


_ON_DEVICE = {}  # Class weights by values, type and device.


def _class_weight(criterion, like):
    """Return the class weights ``[N]`` on a tensor's device, copied there once, or None.

    They are float32 or wider. MMSegmentation copies the list in each step. A buffer would be lost
    by ``to_empty``, and rounded by ``half``.
    """
    if criterion.class_weight is None:
        return None
    dtype = torch.promote_types(like.dtype, torch.float32)
    key = tuple(criterion.class_weight), dtype, str(like.device)
    if key not in _ON_DEVICE:
        _ON_DEVICE[key] = torch.tensor(key[0], dtype=dtype, device=like.device)
    return _ON_DEVICE[key]

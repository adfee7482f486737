"""A head's logits as they are before ``BaseDecodeHead.predict_by_feat`` resizes them."""

import threading
from contextlib import contextmanager

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead

from mmseg_ctx.utils.classes import combined_class


class _State(threading.local):
    """Settings of one thread, since several may predict with one model at a time."""

    without_resizing = False
    defers_labels = False


_STATE = _State()


class FullSizeError(Exception):
    """Labels need full-size logits; the message says why."""


class UnresizedLogits(torch.Tensor):
    """A tensor of the shape, type and device that the resized logits would have, without values.

    Args:
        small (Tensor): Logits of the head's own size, ``[B, N, h, w]``.
        size (Sequence[int]): Height and width that they would be resized to.

    Raises:
        FullSizeError: An operation is applied to the tensor, so it needs the values.
    """

    @staticmethod
    def __new__(cls, small, size):
        shape = *small.shape[:2], *size
        return cls._make_wrapper_subclass(cls, shape, dtype=small.dtype, device=small.device)

    def __init__(self, small, size):
        self.small = small

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise FullSizeError(f'{function} is applied to the resized logits')

    # PyTorch does not dispatch these two, and refuses them for subclasses of Tensor.
    def numpy(self, **kwargs):
        """Raise a ``FullSizeError``."""
        raise FullSizeError('numpy or tolist is applied to the resized logits')

    tolist = numpy


class OptionalResizing(BaseDecodeHead):
    """Mixin for the class of a head, whose resizing ``without_resizing`` can switch off."""

    def predict_by_feat(self, seg_logits, batch_img_metas):
        """Resize the logits as ``BaseDecodeHead.predict_by_feat`` does, unless that is left out.

        Args:
            seg_logits (Tensor): ``[B, N, h, w]``.
            batch_img_metas (list[dict]): Meta information of each image, with the size.

        Returns:
            Tensor: ``[B, N, H, W]``; inside ``without_resizing`` an ``UnresizedLogits``.
        """
        if not _STATE.without_resizing:
            return super().predict_by_feat(seg_logits, batch_img_metas)
        # MMSegmentation's method chooses the size from the meta information. It is called with an
        # empty batch here, to get the size without the values.
        nothing = torch.empty(0, *seg_logits.shape[1:], device='cpu')
        size = super().predict_by_feat(nothing, batch_img_metas).shape[2:]
        return _unresized(seg_logits, size)


@torch.compiler.disable
def _unresized(seg_logits, size):
    # Detached, since autograd's graph would keep the network's feature maps.
    return UnresizedLogits(seg_logits.detach(), size)


def make_resizing_optional(head):
    """Add ``OptionalResizing`` to the class of a head, which keeps its name.

    A head that is no ``BaseDecodeHead`` does not change.

    Args:
        head (nn.Module): A decode head.
    """
    if isinstance(head, BaseDecodeHead) and not isinstance(head, OptionalResizing):
        head.__class__ = combined_class(type(head).__name__, type(head), OptionalResizing)


@contextmanager
def without_resizing():
    """Let heads of ``OptionalResizing`` return ``UnresizedLogits`` in this thread."""
    _STATE.without_resizing = True
    try:
        yield
    finally:
        _STATE.without_resizing = False


@contextmanager
def deferring_labels():
    """Let ``predict`` put ``resized_logits`` instead of labels into the data samples."""
    _STATE.defers_labels = True
    try:
        yield
    finally:
        _STATE.defers_labels = False


def labels_are_deferred():
    """Return whether ``deferring_labels`` is active in this thread."""
    return _STATE.defers_labels

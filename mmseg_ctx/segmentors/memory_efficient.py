"""Segmentors that train and predict without logits of the label's or the image's size.

While they compute losses or labels, a forward hook makes the output of each head's ``conv_seg`` a
``ResizableLogits``, on which MMSegmentation's own code runs. Between the head's logits and the
labels lie only linear steps that act on rows and columns separately: resizing to the network's
input, averaging over windows, cutting the padding off, undoing the flip, resizing to the original
image. So the labels are computed tile by tile from the small logits.
"""

from contextlib import contextmanager
from itertools import pairwise, product
from threading import get_ident
from typing import Literal

import torch
from mmengine.config import ConfigDict
from mmengine.logging import print_log
from mmengine.structures import PixelData
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import CascadeEncoderDecoder, EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import add_prefix
from torch import nn

# As torch.compiler.disable, but imports the compiler at the first call alone.
from torch._compile import _disable_dynamo

from mmseg_ctx.losses import head_losses
from mmseg_ctx.ops import (
    ResizableLogits,
    ResizedLogits,
    WindowedLogits,
    full_size,
    predicted_labels,
)
from mmseg_ctx.utils.arguments import check_argument
from mmseg_ctx.utils.models import last_head


class MemoryEfficientSegmentor:
    """Mixin that lets a subclass of ``EncoderDecoder`` work without full-size logits.

    A class names it before ``EncoderDecoder`` among its bases. If another base replaces a method of
    ``EncoderDecoder`` that this class replaces, too, the other base's method is used. The results
    of ``inference``, ``encode_decode`` and ``mode='tensor'`` are those of ``EncoderDecoder``.

    ``test_cfg`` has one more entry, ``keep_logits`` (bool). If it is True, ``predict`` does the
    same as in ``EncoderDecoder``, and returns ``seg_logits``, too. Default: False.

    Raises:
        ArgumentError: ``keep_logits`` is no bool.
        TypeError: A class names the mixin after ``EncoderDecoder``.

    Example:
        >>> class MySegmentor(MemoryEfficientSegmentor, EncoderDecoder):
        ...     pass
    """

    _steps_of_others = frozenset()

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        classes = cls.__mro__
        ours, theirs = classes.index(MemoryEfficientSegmentor), classes.index(EncoderDecoder)
        if ours > theirs:
            raise TypeError(
                f'{cls.__name__} must inherit from MemoryEfficientSegmentor before EncoderDecoder'
            )
        between = set(classes[ours + 1 : theirs]) - {CascadeEncoderDecoder}
        cls._steps_of_others = frozenset(name for base in between for name in vars(base))

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.test_cfg = ConfigDict({'mode': 'whole', **(self.test_cfg or {})})
        check_argument('test_cfg.keep_logits', self.test_cfg.get('keep_logits', False), bool)
        self._hook = _ResizableOutput()
        if 'postprocess_result' in self._steps_of_others:
            reason = f'{type(self).__name__} has a postprocess_result of its own'
            print_log(f'Labels are made with full-size logits, since {reason}', logger='current')
        for name in ('decode_head', 'auxiliary_head'):
            for part in getattr(self, name, nn.Identity()).modules():
                classifier = getattr(part, 'conv_seg', None)
                if isinstance(part, BaseDecodeHead) and isinstance(classifier, nn.Module):
                    classifier.register_forward_hook(self._hook)

    @property
    def threshold(self):
        """float | None: Threshold of a single class's probability."""
        # K-Net's head has no threshold, since it has several classes.
        return getattr(last_head(self), 'threshold', None)

    def loss(self, inputs, data_samples):
        """Return what ``EncoderDecoder.loss`` does: the losses of all heads by name."""
        with self._hook.active():
            return super().loss(inputs, data_samples)

    def _decode_head_forward_train(self, inputs, data_samples):
        if '_decode_head_forward_train' in self._steps_of_others:
            return super()._decode_head_forward_train(inputs, data_samples)
        if not isinstance(self.decode_head, nn.ModuleList):
            losses = head_losses(self.decode_head, inputs, data_samples, self.train_cfg)
            return add_prefix(losses, 'decode')
        losses, previous = {}, ()
        for index, head in enumerate(self.decode_head):
            of_head = head_losses(head, inputs, *previous, data_samples, self.train_cfg)
            losses.update(add_prefix(of_head, f'decode_{index}'))
            if index + 1 < len(self.decode_head):  # a second time, as in MMSegmentation
                previous = (full_size(head.forward(inputs, *previous)),)
        return losses

    def _auxiliary_head_forward_train(self, inputs, data_samples):
        if '_auxiliary_head_forward_train' in self._steps_of_others:
            return super()._auxiliary_head_forward_train(inputs, data_samples)
        several = isinstance(self.auxiliary_head, nn.ModuleList)
        losses = {}
        for index, head in enumerate(self.auxiliary_head if several else [self.auxiliary_head]):
            of_head = head_losses(head, inputs, data_samples, self.train_cfg)
            losses.update(add_prefix(of_head, f'aux_{index}' if several else 'aux'))
        return losses

    def _forward(self, inputs, data_samples=None):
        return full_size(super()._forward(inputs, data_samples))

    def predict(self, inputs, data_samples=None):
        """Return the labels of images.

        Args:
            inputs (Tensor): Preprocessed images, ``[B, C, H, W]``.
            data_samples (list[SegDataSample] | None): Samples whose meta information has the
                original size, the padding and the flip of each image; None for labels of the
                input's size. Default: None.

        Returns:
            list[SegDataSample]: ``data_samples`` or new ones, with ``pred_sem_seg`` ``[1, H, W]``
            and, if ``test_cfg.keep_logits`` is True, ``seg_logits`` ``[N, H, W]``. Without it,
            ``sample.seg_logits.data`` computes them when it is read, but the samples do not list
            them as a field.
        """
        if self.keeps_full_size:
            return super().predict(inputs, data_samples)
        with self._hook.active():
            return super().predict(inputs, data_samples)

    @property
    def keeps_full_size(self):
        """bool: Whether ``predict`` makes labels as ``EncoderDecoder`` does."""
        if torch.compiler.is_compiling() and _is_exporting():
            return True
        own_result = 'postprocess_result' in self._steps_of_others
        return own_result or self.test_cfg.get('keep_logits', False)

    def predict_logits(self, inputs, data_samples):
        """Return samples as :meth:`predict` does, without labels, for test-time augmentation."""
        with self._hook.active():
            seg_logits = self.inference(inputs, [each.metainfo for each in data_samples])
        return self._with_logits(seg_logits, data_samples)

    def slide_inference(self, inputs, batch_img_metas):
        """Return the mean of the logits of overlapping windows, ``[B, N, H, W]``.

        Within ``predict``, this is a ``WindowedLogits`` instead of a tensor.

        Raises:
            ValueError: Windows leave a gap.
        """
        if not self._hook.is_active or 'slide_inference' in self._steps_of_others:
            return super().slide_inference(inputs, batch_img_metas)
        return self._windowed_logits(inputs, batch_img_metas)

    @_disable_dynamo(recursive=False)  # the network may be compiled
    def _windowed_logits(self, inputs, batch_img_metas):
        crop, size = self.test_cfg.crop_size, inputs.shape[2:]
        starts = tuple(map(_window_starts, size, crop, self.test_cfg.stride))
        logits = None
        for top, left in product(*starts):
            image = inputs[:, :, top : top + crop[0], left : left + crop[1]]
            # The head takes img_shape as a window's shape if it is a torch.Size.
            batch_img_metas[0]['img_shape'] = image.shape[2:]
            window = self.encode_decode(image, batch_img_metas)
            window = window if isinstance(window, ResizableLogits) else ResizableLogits(window)
            logits = logits or WindowedLogits(window, starts, size)
            logits.add(window.detach(), top, left)
        return logits

    def postprocess_result(self, seg_logits, data_samples=None):
        """Return samples as :meth:`predict` does, for logits of the network's input's size."""
        if not self._hook.is_active:
            return super().postprocess_result(seg_logits, data_samples)
        return self._with_labels(self._with_logits(seg_logits, data_samples))

    @_disable_dynamo
    def _with_labels(self, samples):
        for sample in samples:
            label = predicted_labels(sample.seg_logits.logits, self.threshold)
            sample.set_data(dict(pred_sem_seg=PixelData(data=label)))
        return samples

    @_disable_dynamo
    def _with_logits(self, seg_logits, data_samples):
        """Give each sample its logits; without samples, make some."""
        if isinstance(seg_logits, torch.Tensor):
            seg_logits = ResizableLogits(seg_logits)
        seg_logits = seg_logits.detach()
        rows, columns = seg_logits.sides()
        samples = data_samples or [SegDataSample() for _ in range(len(seg_logits))]
        for index, sample in enumerate(samples):
            sides = rows, columns
            if data_samples is not None:
                sides = _original_sides(rows, columns, sample.metainfo, self.align_corners)
            if 'seg_logits' in sample:
                del sample.seg_logits  # of an earlier prediction
            logits = ResizedLogits(seg_logits.windows_of(index), *sides)
            # No field of the sample, so that nothing copies, saves or moves it.
            vars(sample)['_seg_logits'] = LogitsOnDemand(logits)
        return samples


@MODELS.register_module()
class MemoryEfficientEncoderDecoder(MemoryEfficientSegmentor, EncoderDecoder):
    """``EncoderDecoder`` without full-size logits; see :class:`MemoryEfficientSegmentor`."""


@MODELS.register_module()
class MemoryEfficientCascadeEncoderDecoder(MemoryEfficientSegmentor, CascadeEncoderDecoder):
    """``CascadeEncoderDecoder`` without full-size logits; see :class:`MemoryEfficientSegmentor`."""


class LogitsOnDemand:
    """In the place of the ``PixelData`` of ``seg_logits``, which are computed when they are read.

    Args:
        logits (ResizedLogits): The logits of an image.
    """

    def __init__(self, logits):
        self.logits = logits

    @property
    def data(self):
        """Tensor: As in ``EncoderDecoder``: logits ``[N, H, W]``; probabilities if N is 1."""
        tensor = self.logits.full()
        return tensor.sigmoid() if len(tensor) == 1 else tensor


class _ResizableOutput:
    """A forward hook that makes the output of a layer ``ResizableLogits`` while it is active."""

    def __init__(self):
        # The thread of each call that is under way; 0, for any, where a compiler traces the call.
        self._calls = []

    @property
    def is_active(self):
        if not self._calls or torch.jit.is_tracing() or _is_exporting():
            return False
        return torch.compiler.is_compiling() or 0 in self._calls or get_ident() in self._calls

    @contextmanager
    def active(self):
        call = 0 if torch.compiler.is_compiling() else get_ident()
        self._calls.append(call)
        try:
            yield
        finally:
            self._calls.remove(call)

    def __call__(self, module, inputs, output):
        return ResizableLogits(output) if self.is_active else None


def _is_exporting():
    """Return whether ``torch.export`` traces the model; older versions of PyTorch do not say."""
    return getattr(torch.compiler, 'is_exporting', bool)()


def _window_starts(length, crop, stride):
    """Return where MMSegmentation's windows begin along a side; the last one ends at its end."""
    last = max(length - crop, 0)
    starts = [min(start, last) for start in range(0, last + stride, stride)]
    if any(after - before > crop for before, after in pairwise(starts)):
        raise ValueError(
            f'test_cfg.stride must not be larger than test_cfg.crop_size: windows of {crop} at '
            f'{starts} leave a gap in {length}'
        )
    return starts


def _original_sides(rows, columns, meta, align_corners):
    """Add the steps from the network's input to the original image to the maps of both sides."""
    padding = meta.get('img_padding_size', meta.get('padding_size', [0] * 4))
    left, right, top, bottom = padding
    flip = None
    if meta.get('flip'):
        directions = 'horizontal', 'vertical'
        flip = check_argument('flip_direction', meta.get('flip_direction'), Literal[directions])
    height, width = meta['ori_shape']
    return (
        [_original(each, top, bottom, flip == 'vertical', height, align_corners) for each in rows],
        [
            _original(each, left, right, flip == 'horizontal', width, align_corners)
            for each in columns
        ],
    )


def _original(side, before, after, flips, length, align_corners):
    side = side.crop(before, len(side.first) - after)
    return (side.flip() if flips else side).resize(length, align_corners)

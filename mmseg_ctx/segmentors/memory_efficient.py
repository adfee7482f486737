"""Segmentors that train and predict without logits of the label's or the image's size.

MMSegmentation resizes a head's logits to the network's input, adds up those of the windows, cuts
the padding off, turns flips back and resizes once more, to the original image; then it takes the
best class. All but the last acts on rows and on columns separately and linearly. So here the labels
are made tile by tile from the head's logits, as :mod:`mmseg_ctx.ops.resized_logits` has it.
"""

from contextlib import contextmanager
from itertools import pairwise, product

import torch
from mmengine.logging import print_log
from mmengine.structures import PixelData
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import CascadeEncoderDecoder, EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

from mmseg_ctx.losses import use_memory_efficient_losses
from mmseg_ctx.ops import Interpolation, ResizedLogits, at_least_float32, predicted_labels
from mmseg_ctx.utils.arguments import check_bool, check_choice, check_ints


class MemoryEfficientSegmentor:
    """What a class made from ``EncoderDecoder`` inherits from first, to hold no full-size logits.

    Where that is not possible, a head's losses or the labels are made as before, and a line in the
    log says why. ``inference``, ``encode_decode`` and ``mode='tensor'`` return what they did.

    ``test_cfg`` has one more entry, ``keep_logits`` (bool): whether to make the labels as before,
    and to return ``seg_logits`` with them. Default: False.

    Raises:
        TypeError: ``test_cfg.keep_logits`` is not True or False, or ``crop_size`` or ``stride`` of
            windows are no integers.
        ValueError: ``test_cfg.mode`` is neither ``'whole'`` nor ``'slide'``, or ``crop_size`` or
            ``stride`` are not two integers.

    Example:
        >>> class MySegmentor(MemoryEfficientSegmentor, EncoderDecoder):
        ...     pass
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        first = next(base for base in cls.__mro__ if 'predict' in vars(base))
        if not issubclass(first, MemoryEfficientSegmentor):
            raise TypeError(
                f'{cls.__name__} must inherit from MemoryEfficientSegmentor before {first.__name__}'
            )

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._settings()
        self._defers_labels = False
        self._keeps_full_size = False
        for name, head in _named_heads(self):
            reason = use_memory_efficient_losses(head)
            if reason is not None:
                self._log(f'losses of {name}, {type(head).__name__},', reason)

    def _log(self, what, reason):
        text = f'{type(self).__name__}: {what} are made with full-size logits, since {reason}'
        print_log(text, logger='current')

    def _settings(self):
        """Return ``test_cfg``, checked."""
        settings = self.test_cfg or {}
        check_bool('test_cfg.keep_logits', settings.get('keep_logits', False))
        mode = check_choice('test_cfg.mode', settings.get('mode', 'whole'), ('whole', 'slide'))
        for name in ('crop_size', 'stride') if mode == 'slide' else ():
            if len(check_ints(f'test_cfg.{name}', settings.get(name))) != 2:
                raise ValueError(
                    f'test_cfg.{name} must be two integers, of rows and columns, '
                    f'got {settings[name]!r}'
                )
        return settings

    def predict(self, inputs, data_samples=None):
        """Return the labels of images.

        Args:
            inputs (Tensor): Preprocessed images, ``[B, 3, H, W]``.
            data_samples (list[SegDataSample] | None): Whose meta information has the original size,
                the padding and the flip. Default: None, for labels of the input's size.

        Returns:
            list[SegDataSample]: ``data_samples``, or new ones, with ``pred_sem_seg`` ``[1, H, W]``;
            where ``test_cfg.keep_logits`` is True also with ``seg_logits`` ``[N, H, W]``.
        """
        if self._settings().get('keep_logits', False) or self._keeps_full_size:
            return super().predict(inputs, data_samples)
        if torch.compiler.is_compiling():
            # No graph can leave the head's resizing out and put it back.
            return torch.compiler.disable(self._predict_labels)(inputs, data_samples)
        return self._predict_labels(inputs, data_samples)

    def _predict_labels(self, inputs, data_samples):
        try:
            logits = self._resized_logits(inputs, data_samples)
        except _FullSizeError as error:
            self._keeps_full_size = True
            self._log('labels', error)
            return super().predict(inputs, data_samples)
        if data_samples is None:
            data_samples = [SegDataSample() for _ in logits]
        for sample, image in zip(data_samples, logits, strict=True):
            if self._defers_labels:
                sample.set_field(image, 'resized_logits')
            else:
                label = predicted_labels(image, self.threshold)
                sample.set_data(dict(pred_sem_seg=PixelData(data=label)))
        return data_samples

    @property
    def threshold(self):
        """float | None: Above which the one class of a binary model is predicted."""
        return _last_head(self).threshold

    @contextmanager
    def labels_deferred(self):
        """Have ``predict`` put ``resized_logits`` into the data samples, and no labels."""
        self._defers_labels = True
        try:
            yield
        finally:
            self._defers_labels = False

    def _resized_logits(self, inputs, data_samples):
        """Return each image's logits at the size of its label, a list of ``ResizedLogits``."""
        _check_steps(self)
        settings = self._settings()
        metas = _meta_information(inputs, data_samples)
        if settings.get('mode', 'whole') == 'slide':
            windows, rows, columns = self._slide(inputs, metas, settings)
        else:
            logits, rows, columns = self._small_logits(inputs, metas)
            windows, rows, columns = [[logits]], [rows], [columns]
        images = []
        for index, meta in enumerate(metas):
            image = [[window[index] for window in line] for line in windows]
            if data_samples is None:
                images.append(ResizedLogits(image, rows, columns))
            else:
                sides = _original_sides(rows, columns, meta, self.align_corners)
                images.append(ResizedLogits(image, *sides))
        return images

    def _slide(self, inputs, metas, settings):
        """Return small logits of each window, and the maps of their rows and columns."""
        crop, size = settings['crop_size'], inputs.shape[2:]
        sides = zip(size, crop, settings['stride'], strict=True)
        tops, lefts = (_window_starts(*side) for side in sides)
        windows = [[] for _ in tops]
        for (line, top), left in product(enumerate(tops), lefts):
            window = inputs[:, :, top : top + crop[0], left : left + crop[1]]
            # A torch.Size tells the head that it sees a window.
            metas[0]['img_shape'] = window.shape[2:]
            logits, rows, columns = self._small_logits(window, metas)
            windows[line].append(logits)
        return windows, _place(rows, tops, size[0]), _place(columns, lefts, size[1])

    def _small_logits(self, inputs, metas):
        """Return what the head would resize, and the maps of its rows and columns.

        Raises:
            _FullSizeError: The head's resizing is not the last thing that happens.
        """
        head = _last_head(self)
        with _without_resizing(head) as caught:
            result = self.encode_decode(inputs, metas)
        logits, size = caught[-1] if caught else (None, None)
        if result is not logits:
            raise _FullSizeError(
                f'what {type(head).__name__} predicts is not what its predict_by_feat returns'
            )
        logits = logits.detach()  # A graph would hold the network's maps.
        like = at_least_float32(logits[:0])
        return logits, *(
            Interpolation.identity(source, like).resize(target, head.align_corners)
            for source, target in zip(logits.shape[2:], size, strict=True)
        )


@MODELS.register_module()
class MemoryEfficientEncoderDecoder(MemoryEfficientSegmentor, EncoderDecoder):
    """``EncoderDecoder`` without full-size logits; see :class:`MemoryEfficientSegmentor`.

    Args:
        *args: As of ``EncoderDecoder``.
        **kwargs: Likewise.
    """


@MODELS.register_module()
class MemoryEfficientCascadeEncoderDecoder(MemoryEfficientSegmentor, CascadeEncoderDecoder):
    """``CascadeEncoderDecoder`` without full-size logits; see :class:`MemoryEfficientSegmentor`.

    Args:
        *args: As of ``CascadeEncoderDecoder``.
        **kwargs: Likewise.
    """


class _FullSizeError(Exception):
    """Why labels need full-size logits."""


def _named_heads(segmentor):
    for name in ('decode_head', 'auxiliary_head'):
        heads = getattr(segmentor, name, None)
        if isinstance(heads, nn.ModuleList):
            yield from ((f'{name}[{index}]', head) for index, head in enumerate(heads))
        elif heads is not None:
            yield name, heads


def _last_head(segmentor):
    heads = segmentor.decode_head
    return heads[-1] if isinstance(heads, nn.ModuleList) else heads


def _check_steps(segmentor):
    """Raise ``_FullSizeError`` where a step between logits and labels is not MMSegmentation's."""
    cls, head = type(segmentor), _last_head(segmentor)
    steps = dict(predict=super(MemoryEfficientSegmentor, cls).predict)
    for name in ('inference', 'whole_inference', 'slide_inference', 'postprocess_result'):
        steps[name] = vars(segmentor).get(name, getattr(cls, name))
    for name, step in steps.items():
        if step is not getattr(EncoderDecoder, name):
            raise _FullSizeError(f'{cls.__name__} has a {name} of its own')
    if not isinstance(head, BaseDecodeHead):
        raise _FullSizeError(f'{type(head).__name__} is no BaseDecodeHead')
    step = vars(head).get('predict_by_feat', type(head).predict_by_feat)
    if step is not BaseDecodeHead.predict_by_feat:
        raise _FullSizeError(f'{type(head).__name__} has a predict_by_feat of its own')


@contextmanager
def _without_resizing(head):
    """Have a head's ``predict_by_feat`` return the logits as they are.

    Yields:
        list[tuple[Tensor, torch.Size]]: To which each call adds the logits and the size that they
        would have been resized to.
    """
    caught = []

    def predict_by_feat(seg_logits, batch_img_metas):
        # Which of the sizes in the meta information counts, MMSegmentation's own method knows. Of a
        # batch without images it makes no values.
        nothing = torch.empty(0, *seg_logits.shape[1:], device='cpu')
        resized = BaseDecodeHead.predict_by_feat(head, nothing, batch_img_metas)
        caught.append((seg_logits, resized.shape[2:]))
        return seg_logits

    head.predict_by_feat = predict_by_feat
    try:
        yield caught
    finally:
        del head.predict_by_feat


def _meta_information(inputs, data_samples):
    if data_samples is not None:
        return [sample.metainfo for sample in data_samples]
    size = inputs.shape[2:]
    return [dict(ori_shape=size, img_shape=size, pad_shape=size) for _ in inputs]


def _window_starts(length, crop, stride):
    """Return where MMSegmentation's windows begin along a side; the last one ends with it."""
    last = max(length - crop, 0)
    return [min(start, last) for start in range(0, last + stride, stride)]


def _place(window, starts, length):
    """Return the maps from each window's small logits to a side, a mean where windows meet."""
    size = len(window.first)
    if any(after - before > size for before, after in pairwise(starts)):
        raise ValueError(
            f'test_cfg.stride must not be larger than test_cfg.crop_size: windows of {size} at '
            f'{starts} leave a gap in {length}'
        )
    coverage = window.weights.new_zeros(length)
    for start in starts:
        coverage[start : start + size] += 1
    return [window.place(start, length).scale(1 / coverage) for start in starts]


def _original_sides(rows, columns, meta, align_corners):
    """Return the maps that go on from the network's input to the original image."""
    padding = meta.get('img_padding_size', meta.get('padding_size', [0] * 4))
    left, right, top, bottom = padding
    flip = meta.get('flip_direction') if meta.get('flip') else None
    if flip is not None:
        check_choice('flip_direction', flip, ('horizontal', 'vertical'))
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

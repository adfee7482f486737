"""Segmentors that train and predict without logits of the label's or the image's size.

MMSegmentation resizes the head's logits to the network's input, averages them over the windows,
cuts the padding off, undoes the flip, resizes once more to the original image, and then takes the
best class. All steps but the last are linear and act on rows and columns separately. So
:mod:`mmseg_ctx.ops.resized_logits` can compute the labels tile by tile from the head's logits.
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
    """Mixin that lets a subclass of ``EncoderDecoder`` work without full-size logits.

    A class names it before ``EncoderDecoder`` among its bases. If a head's losses or the labels
    need full-size logits, they are computed as in ``EncoderDecoder``, and a line in the log says
    why. The results of ``inference``, ``encode_decode`` and ``mode='tensor'`` do not change.

    ``test_cfg`` has one more entry, ``keep_logits`` (bool). If it is True, labels are computed as
    in ``EncoderDecoder``, and ``predict`` returns ``seg_logits``, too. Default: False.

    Raises:
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
        """Check ``test_cfg`` and return it."""
        settings = self.test_cfg or {}
        check_bool('test_cfg.keep_logits', settings.get('keep_logits', False))
        mode = check_choice('test_cfg.mode', settings.get('mode', 'whole'), ('whole', 'slide'))
        for name in ('crop_size', 'stride') if mode == 'slide' else ():
            if len(check_ints(f'test_cfg.{name}', settings.get(name))) != 2:
                raise ValueError(
                    f'test_cfg.{name} must be two integers, for rows and columns, '
                    f'got {settings[name]!r}'
                )
        return settings

    def predict(self, inputs, data_samples=None):
        """Return the labels of images.

        Args:
            inputs (Tensor): Preprocessed images, ``[B, 3, H, W]``.
            data_samples (list[SegDataSample] | None): Samples whose meta information has the
                original size, the padding and the flip of each image; None for labels of the
                input's size. Default: None.

        Returns:
            list[SegDataSample]: ``data_samples`` or new ones, with ``pred_sem_seg`` ``[1, H, W]``
            and, if ``test_cfg.keep_logits`` is True, ``seg_logits`` ``[N, H, W]``.
        """
        if self._settings().get('keep_logits', False) or self._keeps_full_size:
            return super().predict(inputs, data_samples)
        if torch.compiler.is_compiling():
            # A graph cannot replace the head's resizing and restore it.
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
        """float | None: Probability above which a model of one class predicts the class."""
        return _last_head(self).threshold

    @contextmanager
    def labels_deferred(self):
        """Let ``predict`` put ``resized_logits`` instead of labels into the data samples."""
        self._defers_labels = True
        try:
            yield
        finally:
            self._defers_labels = False

    def _resized_logits(self, inputs, data_samples):
        """Return the ``ResizedLogits`` of each image, a list."""
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
        """Return the small logits of each window, and the maps from them to the input.

        Returns:
            tuple: Logits ``[B, N, h, w]`` of each window, by its row and column in the grid; an
            ``Interpolation`` for each row of the grid, and one for each column.
        """
        crop, size = settings['crop_size'], inputs.shape[2:]
        sides = zip(size, crop, settings['stride'], strict=True)
        tops, lefts = (_window_starts(*side) for side in sides)
        windows = [[] for _ in tops]
        for (line, top), left in product(enumerate(tops), lefts):
            window = inputs[:, :, top : top + crop[0], left : left + crop[1]]
            # The head takes img_shape as a window's shape if it is a torch.Size.
            metas[0]['img_shape'] = window.shape[2:]
            logits, rows, columns = self._small_logits(window, metas)
            windows[line].append(logits)
        return windows, _place(rows, tops, size[0]), _place(columns, lefts, size[1])

    def _small_logits(self, inputs, metas):
        """Return the logits before the head's resizing, and the maps that resize them.

        Returns:
            tuple[Tensor, Interpolation, Interpolation]: ``[B, N, h, w]``, and the maps of rows and
            of columns.

        Raises:
            _FullSizeError: The head does something after its resizing.
        """
        head = _last_head(self)
        with _without_resizing(head) as caught:
            result = self.encode_decode(inputs, metas)
        logits, size = caught[-1] if caught else (None, None)
        if result is not logits:
            raise _FullSizeError(
                f'the predict of {type(head).__name__} changes what predict_by_feat returns'
            )
        logits = logits.detach()  # autograd's graph would keep the network's feature maps
        like = at_least_float32(logits[:0])
        return logits, *(
            Interpolation.identity(source, like).resize(target, head.align_corners)
            for source, target in zip(logits.shape[2:], size, strict=True)
        )


@MODELS.register_module()
class MemoryEfficientEncoderDecoder(MemoryEfficientSegmentor, EncoderDecoder):
    """``EncoderDecoder`` without full-size logits; see :class:`MemoryEfficientSegmentor`.

    Args:
        *args: Arguments of ``EncoderDecoder``.
        **kwargs: Arguments of ``EncoderDecoder``.
    """


@MODELS.register_module()
class MemoryEfficientCascadeEncoderDecoder(MemoryEfficientSegmentor, CascadeEncoderDecoder):
    """``CascadeEncoderDecoder`` without full-size logits; see :class:`MemoryEfficientSegmentor`.

    Args:
        *args: Arguments of ``CascadeEncoderDecoder``.
        **kwargs: Arguments of ``CascadeEncoderDecoder``.
    """


class _FullSizeError(Exception):
    """Labels need full-size logits; the message says why."""


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
    """Raise ``_FullSizeError`` if a method between logits and labels is not MMSegmentation's."""
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
    """Let a head's ``predict_by_feat`` return the logits without resizing them.

    Yields:
        list[tuple[Tensor, torch.Size]]: Each call of ``predict_by_feat`` adds the logits and the
        size that it would have resized them to.
    """
    caught = []

    def predict_by_feat(seg_logits, batch_img_metas):
        # MMSegmentation's method chooses the size from the meta information. It is called with an
        # empty batch here, to get the size without the values.
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
    """Return where MMSegmentation's windows begin along a side; the last one ends at its end."""
    last = max(length - crop, 0)
    return [min(start, last) for start in range(0, last + stride, stride)]


def _place(window, starts, length):
    """Return the maps from each window's small logits to a whole side.

    Where windows overlap, their sum is the mean of the windows.
    """
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
    """Add the steps from the network's input to the original image to the maps of both sides."""
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

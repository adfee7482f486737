"""Segmentors that train and predict without logits of the label's or the image's size.

MMSegmentation resizes the head's logits to the network's input, averages them over the windows,
cuts the padding off, undoes the flip, resizes once more to the original image, and then takes the
best class. All steps but the last are linear and act on rows and columns separately. So
:mod:`mmseg_ctx.ops.resized_logits` can compute the labels tile by tile from the head's logits.
"""

from itertools import pairwise, product

import torch
from mmengine.logging import print_log
from mmengine.structures import PixelData
from mmseg.models.segmentors import CascadeEncoderDecoder, EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

from mmseg_ctx.losses import use_memory_efficient_losses
from mmseg_ctx.ops import Interpolation, ResizedLogits, at_least_float32, predicted_labels
from mmseg_ctx.segmentors.small_logits import (
    FullSizeError,
    UnresizedLogits,
    labels_are_deferred,
    make_resizing_optional,
    without_resizing,
)
from mmseg_ctx.utils.arguments import check_bool, check_choice, check_ints
from mmseg_ctx.utils.models import last_head


class MemoryEfficientSegmentor:
    """Mixin that lets a subclass of ``EncoderDecoder`` work without full-size logits.

    A class names it before ``EncoderDecoder`` among its bases. Training runs ``EncoderDecoder``'s
    own ``loss``; the constructor changes the classes of the heads, which compute the losses. If a
    head's losses or the labels need full-size logits, they are computed as in ``EncoderDecoder``,
    and a line in the log says why. The results of ``inference``, ``encode_decode`` and
    ``mode='tensor'`` do not change.

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
        self._checked_test_cfg()
        self._keeps_full_size = False  # becomes True at the first prediction that needs it
        for name, head in _named_heads(self):
            reason = use_memory_efficient_losses(head)
            if reason is not None:
                self._log(f'losses of {name}, {type(head).__name__},', reason)
        # Before training, since a compiled step is compiled anew if the head's class changes.
        make_resizing_optional(last_head(self))

    def _log(self, what, reason):
        text = f'{type(self).__name__}: {what} are made with full-size logits, since {reason}'
        print_log(text, logger='current')

    def _checked_test_cfg(self):
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
        if self._checked_test_cfg().get('keep_logits', False) or self._keeps_full_size:
            return super().predict(inputs, data_samples)
        try:
            return self._predict_labels(inputs, data_samples)
        except FullSizeError as error:
            self._keeps_full_size = True
            self._log('labels', error)
            return super().predict(inputs, data_samples)

    @property
    def threshold(self):
        """float | None: Probability above which a model of one class predicts the class."""
        # K-Net's head has no threshold, since it has several classes.
        return getattr(last_head(self), 'threshold', None)

    # The next two are not compiled, but the network that they call may be.
    @torch.compiler.disable(recursive=False)
    def _predict_labels(self, inputs, data_samples):
        _check_steps(self)
        make_resizing_optional(last_head(self))  # which may be another one since
        settings = self._checked_test_cfg()
        metas = _meta_information(inputs, data_samples)
        if settings.get('mode', 'whole') == 'whole':
            # The network's input may be anything here, several tensors for instance.
            starts, size, windows = None, None, [self._unresized_logits(inputs, metas)]
        else:
            crop, size = settings['crop_size'], inputs.shape[2:]
            starts = list(map(_window_starts, size, crop, settings['stride']))
            windows = []
            for top, left in product(*starts):
                window = inputs[:, :, top : top + crop[0], left : left + crop[1]]
                # The head takes img_shape as a window's shape if it is a torch.Size.
                metas[0]['img_shape'] = window.shape[2:]
                windows.append(self._unresized_logits(window, metas))
        if data_samples is None:
            data_samples = [SegDataSample() for _ in metas]
        self._set_labels(data_samples, windows, starts, size, metas)
        return data_samples

    @torch.compiler.disable(recursive=False)
    def _unresized_logits(self, inputs, metas):
        with without_resizing():
            logits = self.encode_decode(inputs, metas)
        if not isinstance(logits, UnresizedLogits):
            raise FullSizeError(
                f'what {type(last_head(self)).__name__} predicts is not what '
                "BaseDecodeHead's predict_by_feat returns"
            )
        return logits

    @torch.compiler.disable
    def _set_labels(self, data_samples, windows, starts, size, metas):
        rows, columns = self._sides(windows[0], starts, size)
        for index, (sample, meta) in enumerate(zip(data_samples, metas, strict=True)):
            small = [window.small[index] for window in windows]
            lines = [small[k : k + len(columns)] for k in range(0, len(small), len(columns))]
            sides = _original_sides(rows, columns, meta, self.align_corners)
            logits = ResizedLogits(lines, *sides)
            sample.pop('seg_logits', None)  # of an earlier prediction
            if labels_are_deferred():
                sample.set_field(logits, 'resized_logits')
            else:
                label = predicted_labels(logits, self.threshold)
                sample.set_data(dict(pred_sem_seg=PixelData(data=label)))

    def _sides(self, window, starts, size):
        """Return the maps of rows and of columns, from each window's logits to the input."""
        like = at_least_float32(window.small[:0])
        align_corners = last_head(self).align_corners
        sides = []
        for axis in (0, 1):
            side = Interpolation.identity(window.small.shape[2 + axis], like)
            side = side.resize(window.shape[2 + axis], align_corners)
            sides.append([side] if starts is None else _place(side, starts[axis], size[axis]))
        return sides


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


def _named_heads(segmentor):
    for name in ('decode_head', 'auxiliary_head'):
        heads = getattr(segmentor, name, None)
        if isinstance(heads, nn.ModuleList):
            yield from ((f'{name}[{index}]', head) for index, head in enumerate(heads))
        elif heads is not None:
            yield name, heads


def _check_steps(segmentor):
    """Raise ``FullSizeError`` if a method between logits and labels is not MMSegmentation's."""
    cls = type(segmentor)
    steps = dict(predict=super(MemoryEfficientSegmentor, cls).predict)
    for name in ('inference', 'whole_inference', 'slide_inference', 'postprocess_result'):
        steps[name] = vars(segmentor).get(name, getattr(cls, name))
    for name, step in steps.items():
        if step is not getattr(EncoderDecoder, name):
            raise FullSizeError(f'{cls.__name__} has a {name} of its own')


def _meta_information(inputs, data_samples):
    if data_samples is not None:
        return [sample.metainfo for sample in data_samples]
    size = inputs.shape[2:]
    meta = dict(ori_shape=size, img_shape=size, pad_shape=size, padding_size=[0] * 4)
    return [dict(meta) for _ in inputs]


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


def _place(window, starts, length):
    """Return the maps from each window's small logits to a whole side.

    Where windows overlap, their sum is the mean of the windows.
    """
    coverage = window.weights.new_zeros(length)
    for start in starts:
        coverage[start : start + len(window.first)] += 1
    return [window.place(start, length).scale(1 / coverage) for start in starts]


def _original_sides(rows, columns, meta, align_corners):
    """Add the steps from the network's input to the original image to the maps of both sides."""
    padding = meta.get('img_padding_size', meta.get('padding_size', [0] * 4))
    left, right, top, bottom = padding
    flip = None
    if meta.get('flip'):
        directions = 'horizontal', 'vertical'
        flip = check_choice('flip_direction', meta.get('flip_direction'), directions)
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

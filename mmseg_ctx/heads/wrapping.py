"""How any decode head of MMSegmentation gets the context-aware classifier (CAC).

A head with CAC must work wherever the head without it works:

- Checkpoints load in both directions. So ``conv_seg`` and all other weights keep their names.
- Segmentors read the head's ``num_classes``, ``out_channels``, ``align_corners`` and ``threshold``,
  and hooks or necks of a user's project may read other attributes. So all attributes are there.
- A head in a cascade takes the output of the head before it. So ``loss`` and ``predict`` keep their
  arguments.
- A head may compute losses of its own, on several maps or with further terms. So its own ``loss``
  runs, on the logits of CAC.

A module that contains the head gives each weight a prefix, and must pass on each attribute and
method. A head whose methods are replaced on the object has all of the above, but its copies keep
methods that are bound to the original. So CAC is a class that precedes the head's class in the
order of inheritance. ``ContextAwareClassifierHead(head=dict(type='FCNHead', …))`` makes an object
of the class ``ContextAwareFCNHead``, which inherits from::

    ContextAwareClassifierHead    the equations and losses of CAC (cac.py)
    WrappedHead                   loss, predict, forward, cls_seg (this file)
    FCNHead                       the wrapped head, MMSegmentation's or a user's
    MemoryEfficientLosses         BaseDecodeHead's losses without full-size logits
    OptionalResizing              BaseDecodeHead's prediction, in a memory-efficient segmentor only
    BaseDecodeHead

The object is an ``FCNHead`` with two more modules, the projectors.
:func:`~mmseg_ctx.losses.memory_efficient.memory_efficient_class` makes one such class for each
class of heads, and makes its objects copy and pickle.

CAC replaces one method of the head, ``cls_seg``, which applies ``conv_seg`` to the features of the
last layer. The head calls it somewhere in its own ``forward`` or ``loss``, which know nothing of
CAC. So these three methods of ``WrappedHead`` first set an attribute that ``cls_seg`` reads, and
that keeps what it computed:

- ``forward`` runs the head's ``forward`` on the refined logits p_p.
- ``predict`` runs the head's ``predict`` on p_p, or on the logits that ``EvaluatedClassifierHook``
  asks for.
- ``loss`` runs the head's ``loss`` on p_p and adds the losses of CAC.

This is correct only for a head that calls ``cls_seg`` exactly once, so each of the three refuses
other heads. The constructor refuses a head for what its class, layers and losses show.
"""

import inspect

from mmseg.models.decode_heads.cascade_decode_head import BaseCascadeDecodeHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import nn

from mmseg_ctx.losses.memory_efficient import (
    keep_class_weights,
    loss_modules,
    memory_efficient_class,
)
from mmseg_ctx.ops import check_labels
from mmseg_ctx.utils.arguments import (
    check_head_arguments,
    check_index,
    check_inputs,
    check_norm_inputs,
)
from mmseg_ctx.utils.errors import one_line

PREFIX = 'ContextAware'  # of the name of a wrapped head's class


class WrappedHead:
    """A decode head that classifies by ``classify_in_context``, which the subclass defines.

    The subclass, ``ContextAwareClassifierHead``, defines these three methods:

    - ``classify_in_context`` takes the place of the head's own ``cls_seg``. It returns logits, and
      a tuple of what it computed on the way.
    - ``context_losses`` takes that tuple, and returns losses in addition to the head's own.
    - ``evaluated_classifier`` returns the arguments of ``classify_in_context`` in testing.

    Args:
        head (dict): Config of the decode head.
    """

    _classification = None  # the _Classification of the loss, predict or forward that is running

    def __new__(cls, head, *args, **kwargs):
        head_class = _head_class(head)
        _refuse_if(_why_not_class(head_class), head_class.__name__)
        bases = [cls, head_class]
        if issubclass(head_class, BaseCascadeDecodeHead):
            bases.insert(0, WrappedCascadeHead)
        return object.__new__(memory_efficient_class(f'{PREFIX}{head_class.__name__}', *bases))

    def __init__(self, head):
        arguments = {key: value for key, value in head.items() if key not in ('type', '_scope_')}
        check_head_arguments(**arguments)
        super().__init__(**arguments)
        name = type(self).__name__.removeprefix(PREFIX)
        _refuse_if(_why_not_classifier(self), name)
        _refuse_if(_why_not_losses(self), name)
        keep_class_weights(self)

    def _init_inputs(self, in_channels, in_index, input_transform):
        check_inputs(in_channels, in_index, input_transform)
        super()._init_inputs(in_channels, in_index, input_transform)

    def _transform_inputs(self, inputs):
        check_index(inputs, self.in_index)
        return super()._transform_inputs(inputs)

    def cls_seg(self, feat):
        """Classify each pixel, in the place of ``conv_seg``.

        Args:
            feat (Tensor): Input of the head's own classifier, ``[B, d, h, w]``.

        Returns:
            Tensor: Logits of the new classifier, ``[B, N, h, w]``.
        """
        # A direct call, outside the three methods, discards what is computed.
        classification = self._classification or _Classification()
        logits, computed = self.classify_in_context(feat, **classification.arguments)
        classification.computed.append(computed)
        return logits

    def forward(self, *args, **kwargs):
        """Return the wrapped head's output for the new classifier's logits."""
        if self._classification is not None:  # of loss or predict
            return super().forward(*args, **kwargs)
        return self._classify_once(_Classification(), super().forward, *args, **kwargs)

    def loss(self, inputs, batch_data_samples, train_cfg, **kwargs):
        """Return the wrapped head's own losses, on the new classifier's logits, and further ones.

        Args:
            inputs (Sequence[Tensor]): Outputs of the backbone or the neck.
            batch_data_samples (list[SegDataSample]): Samples with labels, ``gt_sem_seg``.
            train_cfg (dict): Passed on to the wrapped head.
            **kwargs: Passed on to the wrapped head.

        Returns:
            dict[str, Tensor]: The wrapped head's entries, and those of ``context_losses``.
        """
        arguments = inputs, batch_data_samples, train_cfg
        return self._loss_in_context(batch_data_samples, *arguments, **kwargs)

    def predict(self, inputs, batch_img_metas, test_cfg, **kwargs):
        """Return logits at the size of the images.

        Args:
            inputs (Sequence[Tensor]): Outputs of the backbone or the neck.
            batch_img_metas (list[dict]): Meta information of each image.
            test_cfg (dict): Passed on to the wrapped head.
            **kwargs: Passed on to the wrapped head.

        Returns:
            Tensor: ``[B, N, H, W]``.
        """
        choice = self.evaluated_classifier(batch_img_metas, test_cfg)
        return self._predict_in_context(choice, inputs, batch_img_metas, test_cfg, **kwargs)

    def _loss_in_context(self, samples, *args, **kwargs):
        label = self._stack_batch_gt(samples).squeeze(1).long()  # [B, H, W]
        check_labels(label, self.num_classes, self.ignore_index)
        classification = _Classification()
        losses = self._classify_once(classification, super().loss, *args, **kwargs)
        return losses | self.context_losses(*classification.computed[0], label, samples)

    def _predict_in_context(self, choice, *args, **kwargs):
        return self._classify_once(_Classification(choice), super().predict, *args, **kwargs)

    def _classify_once(self, classification, method, inputs, *args, **kwargs):
        """Return the result of a method of the wrapped head, which must classify once."""
        self._classification = classification
        try:
            result = method(inputs, *args, **kwargs)
        except ValueError:
            check_norm_inputs(self, *inputs)  # its message, where it has one, says what to do
            raise
        finally:
            self._classification = None
        name, times = type(self).__name__.removeprefix(PREFIX), len(classification.computed)
        _refuse_if(_why_not_times(times), name, RuntimeError)
        return result


class WrappedCascadeHead(WrappedHead):
    """The same for a ``BaseCascadeDecodeHead``, which also takes the previous head's output."""

    def loss(self, inputs, prev_output, batch_data_samples, train_cfg, **kwargs):
        """Return the losses; see ``WrappedHead``."""
        arguments = inputs, prev_output, batch_data_samples, train_cfg
        return self._loss_in_context(batch_data_samples, *arguments, **kwargs)

    def predict(self, inputs, prev_output, batch_img_metas, test_cfg, **kwargs):
        """Return the logits; see ``WrappedHead``."""
        choice = self.evaluated_classifier(batch_img_metas, test_cfg)
        arguments = inputs, prev_output, batch_img_metas, test_cfg
        return self._predict_in_context(choice, *arguments, **kwargs)


class _Classification:
    """What ``cls_seg`` reads and keeps while a method of the wrapped head runs.

    Attributes:
        arguments (dict): Arguments of ``classify_in_context`` besides the features.
        computed (list[tuple[Tensor]]): What it computed, an entry for each call of ``cls_seg``.
    """

    def __init__(self, arguments={}):
        self.arguments, self.computed = arguments, []


def _head_class(config):
    """Return the class that a head's config names."""
    if not isinstance(config, dict) or 'type' not in config:
        raise TypeError(f"head must be a dict with a 'type', got {config!r}")
    kind = config['type']
    head_class = MODELS.get(kind) if isinstance(kind, str) else kind
    if not inspect.isclass(head_class):
        raise ValueError(
            f"head must be of a type in MMSegmentation's MODELS registry, got {kind!r}"
        )
    return head_class


def _refuse_if(reason, name, error=TypeError):
    """Raise an error about the head of this name, unless the reason is None."""
    if reason is not None:
        raise error(f'ContextAwareClassifierHead cannot wrap {name}: {reason}')


def _why_not_class(head_class):
    if not issubclass(head_class, BaseDecodeHead):
        return 'it is no BaseDecodeHead'
    if head_class.cls_seg is not BaseDecodeHead.cls_seg:
        return 'it has a cls_seg of its own, so conv_seg alone does not classify'
    if head_class._stack_batch_gt is not BaseDecodeHead._stack_batch_gt:
        return 'it has a _stack_batch_gt of its own, so it learns from more than classes'
    return None


def _why_not_classifier(head):
    conv = getattr(head, 'conv_seg', None)
    if not isinstance(conv, nn.Conv2d) or not _reads_each_pixel(conv):
        return f'its conv_seg must be a 1×1 Conv2d, got {one_line(conv)}'
    if head.out_channels == 1:
        return 'one output leaves no classes to compare; it needs two or more out_channels'
    if conv.out_channels != head.num_classes:
        return f'its conv_seg has {conv.out_channels} outputs for {head.num_classes} classes'
    return None


def _reads_each_pixel(conv):
    """Whether a class's logit at a pixel is the product of one vector with the pixel's feature."""
    plain = (conv.kernel_size, conv.stride, conv.groups) == ((1, 1), (1, 1), 1)
    return plain and conv.padding in ((0, 0), 'same', 'valid')


def _why_not_losses(head):
    """Return which loss lacks the arguments that CAC passes to it."""
    for criterion in loss_modules(head):
        parameters = inspect.signature(criterion.forward).parameters.values()
        names = {parameter.name for parameter in parameters}
        anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        if not anything and not {'weight', 'ignore_index'} <= names:
            return f'its loss {type(criterion).__name__} takes no weight and ignore_index'
    return None


def _why_not_times(times):
    if times == 0:
        return 'it does not classify through cls_seg'
    if times > 1:
        return f'it must classify once, through cls_seg, but called it {times} times'
    return None

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

    ContextAwareClassifierHead    loss, predict, forward, cls_seg (this file)
    ContextAwareClassifier        the equations and losses of CAC (cac.py)
    FCNHead                       the wrapped head, MMSegmentation's or a user's
    MemoryEfficientLosses         BaseDecodeHead's losses without full-size logits
    BaseDecodeHead

The object is an ``FCNHead`` with two more modules, the projectors.
:func:`~mmseg_ctx.losses.memory_efficient.memory_efficient_class` makes one such class for each
class of heads, and makes its objects copy and pickle.

CAC replaces one method of the head, ``cls_seg``, which applies ``conv_seg`` to the features of the
last layer. The head calls it somewhere in its own ``forward`` or ``loss``. While one of the
following methods runs, the attribute ``_call`` tells ``cls_seg`` which logits to return, and keeps
the features and logits that it computed:

- ``forward`` runs the head's ``forward`` on the refined logits p_p.
- ``predict`` runs the head's ``predict`` on p_p, or on the logits that ``EvaluatedClassifierHook``
  asks for.
- ``loss`` runs the head's ``loss`` on p_p and adds the losses of CAC.

This is correct only for a head that calls ``cls_seg`` exactly once, so each of the three refuses
other heads. The constructor refuses a head for what its class, layers and losses show.
"""

import inspect

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads.cascade_decode_head import BaseCascadeDecodeHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import nn

from mmseg_ctx.heads.cac import ContextAwareClassifier
from mmseg_ctx.losses.memory_efficient import (
    keep_class_weights,
    loss_modules,
    losses_without_accuracy,
    memory_efficient_class,
)
from mmseg_ctx.ops import at_least_float32, check_labels, mask_ignored, resize_labels
from mmseg_ctx.utils.arguments import (
    check_head_arguments,
    check_index,
    check_inputs,
    check_norm_inputs,
)


@MODELS.register_module()
class ContextAwareClassifierHead(ContextAwareClassifier):
    """Any decode head of MMSegmentation, with a classifier that adapts to each image.

    The object inherits from this class and from the wrapped head's class. So it has the modules,
    attributes and state dict of the wrapped head, and ``estimate_projector`` and
    ``oracle_projector`` besides. A checkpoint of the model without CAC loads as it is. ``forward``
    and ``predict`` return the refined logits p_p.

    Args:
        head (dict): Config of a ``BaseDecodeHead`` that classifies once, through ``cls_seg``.
        temperature (float): τ, which multiplies the cosines. Default: 15.0, as in the paper.
        projector_channels (int | None): Hidden width of the projectors; None for half of the
            classifier's width. Default: None.
        oracle_scope (str): Whether oracle prototypes and L_KL are averaged over the ``'batch'``, as
            in the released code, or over each ``'image'``, as in the paper. Default: ``'batch'``.
        loss_prior_weight (float): Weight of the losses of p; 0 skips them. Default: 1.0.
        loss_oracle_weight (float): Weight of the losses of p_y; 0 skips them, and the oracle's
            projector is then not trained. Default: 1.0.
        loss_kl (dict | None): Config of L_KL; None, or a ``loss_weight`` of 0, skips it.
            Default: ``dict(type='ClassEntropyKLLoss')``.
        prior_logits (str): Whether the original classifier uses the ``'dot'`` product or the
            ``'cosine'`` (Table 4). Default: ``'dot'``.
        context_logits (str): Whether the refined and the oracle classifier use the ``'cosine'`` or
            the ``'dot'`` product (Table 4). Default: ``'cosine'``.
        projector_input (str): Input of the projectors (Table 5): prototype and weights, joined by
            ``'concat'`` or ``'sum'``, or the ``'prototype'`` alone. ``'none'`` leaves the
            projectors out: the prototypes are the new weights. Default: ``'concat'``.
        residual (str): What is added to the new weights (Table 5): ``'none'``, or the weights of
            the original ``'classifier'``. Default: ``'none'``.

    Raises:
        TypeError: The head cannot be wrapped; the message gives the reason.
        RuntimeError: The head does not classify exactly once. Its first ``loss``, ``predict`` or
            ``forward`` raises this, not the constructor.

    Example:
        >>> fcn = dict(type='FCNHead', in_channels=32, channels=16, num_classes=5)
        >>> head = ContextAwareClassifierHead(fcn)
        >>> head([torch.rand(2, 32, 8, 8)]).shape
        torch.Size([2, 5, 8, 8])
    """

    _call = None  # the call of loss, predict or forward that is running

    def __new__(cls, head, *args, **kwargs):
        head_class = _head_class(head)
        bases = [cls, head_class]
        if issubclass(head_class, BaseCascadeDecodeHead):
            bases.insert(0, CascadeContextAwareClassifierHead)
        return object.__new__(memory_efficient_class(f'ContextAware{head_class.__name__}', *bases))

    def __init__(
        self,
        head,
        temperature=15.0,
        projector_channels=None,
        oracle_scope='batch',
        loss_prior_weight=1.0,
        loss_oracle_weight=1.0,
        loss_kl=dict(type='ClassEntropyKLLoss'),
        prior_logits='dot',
        context_logits='cosine',
        projector_input='concat',
        residual='none',
    ):
        kind = ('type', '_scope_')
        arguments = {name: value for name, value in head.items() if name not in kind}
        check_head_arguments(**arguments)
        super().__init__(**arguments)
        _check_classifier(self)
        _check_losses(self)
        keep_class_weights(self)
        self.init_context_aware_classifier(
            temperature,
            projector_channels,
            oracle_scope,
            loss_prior_weight,
            loss_oracle_weight,
            loss_kl,
            prior_logits,
            context_logits,
            projector_input,
            residual,
        )

    def _init_inputs(self, in_channels, in_index, input_transform):
        check_inputs(in_channels, in_index, input_transform)
        super()._init_inputs(in_channels, in_index, input_transform)

    def _transform_inputs(self, inputs):
        check_index(inputs, self.in_index)
        return super()._transform_inputs(inputs)

    def cls_seg(self, feat):
        """Classify each pixel with weights that are rewritten for its image.

        Args:
            feat (Tensor): Input of the head's own classifier, ``[B, d, h, w]``.

        Returns:
            Tensor: Refined logits p_p, ``[B, N, h, w]``, or those of the classifier that a
            prediction asks for.
        """
        feat = at_least_float32(feat)  # converted once for everything below
        dropped = feat if self.dropout is None else self.dropout(feat)
        prior = self.prior_logits(dropped)
        call = self._call or _Call()
        call.times += 1
        if call.classifier == 'prior':
            return prior
        if call.classifier == 'oracle':
            return self.oracle_logits(feat, resize_labels(call.label, feat.shape[2:]), 'image')
        refined = self.refined_logits(feat, prior)
        if call.is_loss:
            call.seen = feat, prior, refined
        return refined

    def forward(self, *args, **kwargs):
        """Return the wrapped head's output for the refined logits."""
        if self._call is not None:  # called by loss or predict, which count the calls of cls_seg
            return super().forward(*args, **kwargs)
        return self._classify_once(_Call(), super().forward, *args, **kwargs)

    def loss(self, inputs, batch_data_samples, train_cfg, **kwargs):
        """Return the wrapped head's own losses, computed on p_p, and those of CAC (Eq. 8).

        Args:
            inputs (Sequence[Tensor]): Outputs of the backbone or the neck.
            batch_data_samples (list[SegDataSample]): Samples with labels, ``gt_sem_seg``.
            train_cfg (dict): Passed on to the wrapped head.
            **kwargs: Passed on to the wrapped head.

        Returns:
            dict[str, Tensor]: The wrapped head's entries; ``loss_prior*`` and ``loss_oracle*``, the
            entries of ``loss_decode`` on p and p_y; ``loss_kl``.
        """
        return self._loss(batch_data_samples, inputs, batch_data_samples, train_cfg, **kwargs)

    def predict(self, inputs, batch_img_metas, test_cfg, **kwargs):
        """Return logits at the size of the images.

        They are the refined classifier's, or those that ``EvaluatedClassifierHook`` asks for.

        Args:
            inputs (Sequence[Tensor]): Outputs of the backbone or the neck.
            batch_img_metas (list[dict]): Meta information of each image.
            test_cfg (dict): Passed on to the wrapped head.
            **kwargs: Passed on to the wrapped head.

        Returns:
            Tensor: ``[B, N, H, W]``.
        """
        call = _evaluation(batch_img_metas, test_cfg, self)
        return self._predict(call, inputs, batch_img_metas, test_cfg, **kwargs)

    def _loss(self, samples, *args, **kwargs):
        label = self._stack_batch_gt(samples).squeeze(1).long()  # [B, H, W]
        check_labels(label, self.num_classes, self.ignore_index)
        call = _Call(is_loss=True)
        losses = self._classify_once(call, super().loss, *args, **kwargs)
        return losses | self.context_losses(*call.seen, label, samples)

    def _predict(self, call, *args, **kwargs):
        return self._classify_once(call, super().predict, *args, **kwargs)

    def _classify_once(self, call, method, inputs, *args, **kwargs):
        """Return the result of a method of the wrapped head, which must classify once."""
        self._call = call
        try:
            result = method(inputs, *args, **kwargs)
        except ValueError:
            check_norm_inputs(self, *inputs)  # its message, where it has one, says what to do
            raise
        finally:
            self._call = None
        if call.times != 1:
            raise RuntimeError(_not_once(_wrapped_name(self), call.times))
        return result

    def classifier_losses(self, name, logits, batch_data_samples, weight):
        """Return the losses of ``loss_decode`` on the logits of the prior or the oracle.

        Args:
            name (str): ``'prior'`` or ``'oracle'``.
            logits (Tensor): ``[B, N, h, w]``.
            batch_data_samples (list[SegDataSample]): Samples with labels, ``gt_sem_seg``.
            weight (float): Factor of each loss.

        Returns:
            dict[str, Tensor]: Each loss under its name with ``name`` put in: ``loss_ce`` becomes
            ``loss_prior_ce``. MMEngine optimises the entries with ``loss`` in their name, so an
            entry without it does not get it here: ``ce`` becomes ``prior_ce``.
        """
        losses = losses_without_accuracy(self, logits, batch_data_samples)
        return {_rename(loss, name): weight * value for loss, value in losses.items()}


class CascadeContextAwareClassifierHead(ContextAwareClassifierHead):
    """The wrapper of a ``BaseCascadeDecodeHead``, which also takes the previous head's output."""

    def loss(self, inputs, prev_output, batch_data_samples, train_cfg, **kwargs):
        """Return the losses; see ``ContextAwareClassifierHead``."""
        arguments = (inputs, prev_output, batch_data_samples, train_cfg)
        return self._loss(batch_data_samples, *arguments, **kwargs)

    def predict(self, inputs, prev_output, batch_img_metas, test_cfg, **kwargs):
        """Return the logits; see ``ContextAwareClassifierHead``."""
        call = _evaluation(batch_img_metas, test_cfg, self)
        return self._predict(call, inputs, prev_output, batch_img_metas, test_cfg, **kwargs)


class _Call:
    """One call of ``loss``, ``predict`` or ``forward``: what ``cls_seg`` must do, and what it did.

    Attributes:
        classifier (str): Whose logits ``cls_seg`` returns: ``'refined'``, ``'prior'`` or
            ``'oracle'``.
        label (Tensor | None): Labels for the oracle, ``[B, H, W]``.
        is_loss (bool): Whether ``cls_seg`` keeps ``seen``.
        times (int): How often ``cls_seg`` was called.
        seen (tuple[Tensor]): Features f, and logits p and p_p.
    """

    def __init__(self, classifier='refined', label=None, is_loss=False):
        self.classifier, self.label, self.is_loss = classifier, label, is_loss
        self.times, self.seen = 0, None


def _evaluation(metas, test_cfg, head):
    """Return the call for the classifier that ``EvaluatedClassifierHook`` chose."""
    classifier, _ = metas[0].get('evaluated_classifier', ('refined', None))
    if classifier != 'oracle':
        return _Call(classifier)
    if test_cfg is not None and test_cfg.get('mode', 'whole') != 'whole':
        raise ValueError(
            "the oracle classifier needs test_cfg mode 'whole', since it pools an image's labels, "
            f'got {test_cfg["mode"]!r}'
        )
    if any(meta.get('flip', False) for meta in metas):
        raise ValueError(
            'the oracle classifier needs images that are not flipped, since labels are not flipped '
            'in testing'
        )
    label = torch.stack([_pad_label(meta, head.ignore_index) for meta in metas])
    label = label.to(head.conv_seg.weight.device)
    check_labels(label, head.num_classes, head.ignore_index)
    return _Call('oracle', mask_ignored(label, head.ignore_index))


def _pad_label(meta, ignore_index):
    """Return the label in ``meta``, resized and padded like the network's input."""
    _, label = meta['evaluated_classifier']  # [1, H, W]
    height, width = meta['img_shape'][:2]
    padded_height, padded_width = meta.get('pad_shape', (height, width))[:2]
    label = resize_labels(label, (height, width))[0]
    return F.pad(label, (0, padded_width - width, 0, padded_height - height), value=ignore_index)


def _rename(loss_name, classifier):
    if loss_name.startswith('loss_'):
        return f'loss_{classifier}_{loss_name.removeprefix("loss_")}'
    return f'{classifier}_{loss_name}'


def _head_class(config):
    """Return the class that a head's config names, if it can be wrapped."""
    if not isinstance(config, dict) or 'type' not in config:
        raise TypeError(f"head must be a dict with a 'type', got {config!r}")
    kind = config['type']
    head_class = MODELS.get(kind) if isinstance(kind, str) else kind
    if not inspect.isclass(head_class):
        raise ValueError(
            f"head must be of a type in MMSegmentation's MODELS registry, got {kind!r}"
        )
    name = head_class.__name__
    if not issubclass(head_class, BaseDecodeHead):
        _refuse(name, 'it is no BaseDecodeHead')
    if head_class.cls_seg is not BaseDecodeHead.cls_seg:
        _refuse(name, 'it has a cls_seg of its own, so conv_seg alone does not classify')
    if head_class._stack_batch_gt is not BaseDecodeHead._stack_batch_gt:
        _refuse(name, 'it has a _stack_batch_gt of its own, so it learns from more than classes')
    return head_class


def _check_classifier(head):
    """Refuse a head whose ``conv_seg`` has no single weight vector for each class."""
    conv = getattr(head, 'conv_seg', None)
    if not isinstance(conv, nn.Conv2d) or conv.kernel_size != (1, 1) or conv.groups != 1:
        _refuse(_wrapped_name(head), f'its conv_seg must be a 1×1 Conv2d, got {conv}')
    if head.out_channels == 1:
        reason = 'one output leaves no classes to compare; it needs two or more out_channels'
        _refuse(_wrapped_name(head), reason)


def _check_losses(head):
    """Refuse a loss without the arguments that CAC passes to it."""
    for criterion in loss_modules(head):
        parameters = inspect.signature(criterion.forward).parameters.values()
        names = {parameter.name for parameter in parameters}
        anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        if not anything and not {'weight', 'ignore_index'} <= names:
            reason = f'its loss {type(criterion).__name__} takes no weight and ignore_index'
            _refuse(_wrapped_name(head), reason)


def _wrapped_name(head):
    return type(head).__bases__[-2].__name__


def _refuse(name, reason):
    raise TypeError(f'ContextAwareClassifierHead cannot wrap {name}: {reason}')


def _not_once(name, times):
    refusal = f'ContextAwareClassifierHead cannot wrap {name}: '
    if times == 0:
        return f'{refusal}it does not classify through cls_seg'
    return f'{refusal}{name} must classify once, through cls_seg, but called it {times} times'

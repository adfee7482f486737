"""How the context-aware classifier (CAC) gets into any decode head of MMSegmentation.

A model with CAC has to stay the model that it was, in four places. A checkpoint of the model
without CAC loads into it by name, and the other way round, so ``conv_seg`` and all other weights
keep their names. A segmentor reads attributes of its head, ``num_classes``, ``out_channels``,
``align_corners`` and ``threshold``, a neck or a hook of somebody's project may read others. The
head of a cascade takes the output of the one before it. And the head's own losses, on several maps
or with terms of its own, have to be those of the rewritten classifier.

A module that holds the head as a part has none of this: each weight gets a prefix, and each
attribute and method has to be passed on. A head that is changed in place, method by method, has all
of it until it is copied or pickled, since its methods then still belong to the first one. So CAC is
a class before the head's in the order of inheritance. ``ContextAwareClassifierHead(head=dict(
type='FCNHead', …))`` makes the class ``ContextAwareFCNHead``::

    ContextAwareClassifierHead    loss, predict, forward, cls_seg: how CAC gets in (this file)
    ContextAwareClassifier        the equations and losses (cac.py)
    FCNHead                       the head, of MMSegmentation's or of anybody's
    MemoryEfficientLosses         BaseDecodeHead's losses without full-size logits
    BaseDecodeHead

The object is an ``FCNHead`` with two more modules, the projectors. :func:`combined_class` makes the
class, once for each head's class, and lets its objects copy and pickle.

What CAC replaces is one method, ``cls_seg``, through which a head of MMSegmentation hands the
features of its last layer to ``conv_seg``. The head calls it somewhere within its own ``forward``
or ``loss``, so what it has to know, and what it saw, stand in an attribute, ``_call``, while one of
these three methods runs:

- ``forward`` returns whatever the head makes of the refined logits p_p in place of its own.
- ``predict`` does the same with p_p, or with the logits that ``EvaluatedClassifierHook`` asks for.
- ``loss`` runs the head's own ``loss``, which thereby is on p_p, and adds the losses of CAC, for
  the features and logits that ``cls_seg`` saw.

That is only right for a head which classifies once, so each of the three refuses one that does not.
What a class and its parts show is refused by the constructor.
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

    Building one gives a head whose class inherits from this class and from the wrapped head's. So
    it has the parts, attributes and state dict of the wrapped head, plus ``estimate_projector`` and
    ``oracle_projector``, and a checkpoint of the unwrapped model loads as it is. ``forward`` and
    ``predict`` return the refined logits p_p.

    Args:
        head (dict): Config of a ``BaseDecodeHead`` that classifies once, through ``cls_seg``.
        temperature (float): τ of the cosines. Default: 15.0, the paper's.
        projector_channels (int | None): Hidden width of the projectors. Default: half of the
            classifier's width.
        oracle_scope (str): Average oracle prototypes, and L_KL, over the ``'batch'``, as the
            released code does, or over each ``'image'``, as in the paper. Default: ``'batch'``.
        loss_prior_weight (float): Weight of the losses of p; 0 skips them. Default: 1.0.
        loss_oracle_weight (float): Weight of the losses of p_y; 0 skips them, and the oracle's
            projector then stays as it was initialised. Default: 1.0.
        loss_kl (dict | None): Config of L_KL; None, or a ``loss_weight`` of 0, skips it.
            Default: ``dict(type='ClassEntropyKLLoss')``.
        prior_logits (str): Original classifier by ``'dot'`` product or ``'cosine'`` (Table 4).
            Default: ``'dot'``.
        context_logits (str): Context-aware classifiers by ``'cosine'`` or ``'dot'`` product
            (Table 4). Default: ``'cosine'``.
        projector_input (str): What the projectors read (Table 5): prototype and weights, by
            ``'concat'`` or ``'sum'``, or the ``'prototype'`` alone; with ``'none'`` there is no
            projector, and the prototypes classify. Default: ``'concat'``.
        residual (str): What is added to the rewritten weights (Table 5): ``'none'`` or the original
            ``'classifier'``. Default: ``'none'``.

    Raises:
        TypeError: The head cannot be wrapped; the message has the reason.
        RuntimeError: Not from the constructor, but from the first ``loss``, ``predict`` or
            ``forward`` of a head that does not classify exactly once.

    Example:
        >>> fcn = dict(type='FCNHead', in_channels=32, channels=16, num_classes=5)
        >>> head = ContextAwareClassifierHead(fcn)
        >>> head([torch.rand(2, 32, 8, 8)]).shape
        torch.Size([2, 5, 8, 8])
    """

    _call = None  # the call of loss, predict or forward that runs

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
            feat (Tensor): What the head's own classifier would see, ``[B, d, h, w]``.

        Returns:
            Tensor: Refined logits p_p, ``[B, N, h, w]``, or those that a prediction asks for.
        """
        feat = at_least_float32(feat)  # once, for all that reads it
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
        """Return what the wrapped head makes of the refined logits."""
        if self._call is not None:  # of loss or predict, which count
            return super().forward(*args, **kwargs)
        return self._classify_once(_Call(), super().forward, *args, **kwargs)

    def loss(self, inputs, batch_data_samples, train_cfg, **kwargs):
        """Return the wrapped head's own losses, computed on p_p, and those of CAC (Eq. 8).

        Args:
            inputs (Sequence[Tensor]): The backbone's, or the neck's, outputs.
            batch_data_samples (list[SegDataSample]): With the labels ``gt_sem_seg``.
            train_cfg (dict): As of the wrapped head.
            **kwargs: Likewise.

        Returns:
            dict[str, Tensor]: The wrapped head's entries; ``loss_prior*`` and ``loss_oracle*``, the
            entries of ``loss_decode`` on p and p_y; ``loss_kl``.
        """
        return self._loss(batch_data_samples, inputs, batch_data_samples, train_cfg, **kwargs)

    def predict(self, inputs, batch_img_metas, test_cfg, **kwargs):
        """Return the refined logits at the images' size, or those ``EvaluatedClassifierHook`` asks.

        Args:
            inputs (Sequence[Tensor]): The backbone's, or the neck's, outputs.
            batch_img_metas (list[dict]): Meta information of each image.
            test_cfg (dict): As of the wrapped head.
            **kwargs: Likewise.

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
        """Return what a method of the wrapped head returns, which must classify once."""
        self._call = call
        try:
            result = method(inputs, *args, **kwargs)
        except ValueError:
            check_norm_inputs(self, *inputs)  # which would say what to do
            raise
        finally:
            self._call = None
        if call.times != 1:
            raise RuntimeError(_not_once(_wrapped_name(self), call.times))
        return result

    def classifier_losses(self, name, logits, batch_data_samples, weight):
        """Return the losses of ``loss_decode`` on the logits of another classifier.

        Args:
            name (str): ``'prior'`` or ``'oracle'``.
            logits (Tensor): ``[B, N, h, w]``.
            batch_data_samples (list[SegDataSample]): With the labels ``gt_sem_seg``.
            weight (float): Factor of each loss.

        Returns:
            dict[str, Tensor]: ``loss_ce`` for one is ``loss_prior_ce`` here. MMEngine optimises
            what has ``loss`` in its name, so an entry without gets none: ``prior_ce`` for ``ce``.
        """
        losses = losses_without_accuracy(self, logits, batch_data_samples)
        return {_rename(loss, name): weight * value for loss, value in losses.items()}


class CascadeContextAwareClassifierHead(ContextAwareClassifierHead):
    """The same for a ``BaseCascadeDecodeHead``, which also takes the previous head's output."""

    def loss(self, inputs, prev_output, batch_data_samples, train_cfg, **kwargs):
        """Return the losses; see ``ContextAwareClassifierHead``."""
        arguments = (inputs, prev_output, batch_data_samples, train_cfg)
        return self._loss(batch_data_samples, *arguments, **kwargs)

    def predict(self, inputs, prev_output, batch_img_metas, test_cfg, **kwargs):
        """Return the logits; see ``ContextAwareClassifierHead``."""
        call = _evaluation(batch_img_metas, test_cfg, self)
        return self._predict(call, inputs, prev_output, batch_img_metas, test_cfg, **kwargs)


class _Call:
    """What ``cls_seg`` is to do in a call of ``loss``, ``predict`` or ``forward``, and what it did.

    Attributes:
        classifier (str): ``'refined'``, ``'prior'`` or ``'oracle'``: whose logits it returns.
        label (Tensor | None): The oracle's labels, ``[B, H, W]``.
        is_loss (bool): Whether to keep what it saw.
        times (int): How often it was called.
        seen (tuple[Tensor]): Features f, and logits p and p_p.
    """

    def __init__(self, classifier='refined', label=None, is_loss=False):
        self.classifier, self.label, self.is_loss = classifier, label, is_loss
        self.times, self.seen = 0, None


def _evaluation(metas, test_cfg, head):
    """Return the call with the classifier that ``EvaluatedClassifierHook`` set."""
    classifier, _ = metas[0].get('evaluated_classifier', ('refined', None))
    if classifier != 'oracle':
        return _Call(classifier)
    if test_cfg is not None and test_cfg.get('mode', 'whole') != 'whole':
        raise ValueError(
            "the oracle classifier needs test_cfg mode 'whole', since it pools an image's labels, "
            f'got {test_cfg["mode"]!r}'
        )
    if any(meta.get('flip', False) for meta in metas):
        raise ValueError('the oracle classifier needs images that are not flipped, as labels are')
    label = torch.stack([_pad_label(meta, head.ignore_index) for meta in metas])
    label = label.to(head.conv_seg.weight.device)
    check_labels(label, head.num_classes, head.ignore_index)
    return _Call('oracle', mask_ignored(label, head.ignore_index))


def _pad_label(meta, ignore_index):
    """Return the label in ``meta`` at the size of the network's input, padded as the image is."""
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
        _refuse(name, 'it has a cls_seg of its own, so what classifies is not conv_seg')
    if head_class._stack_batch_gt is not BaseDecodeHead._stack_batch_gt:
        _refuse(name, 'it has a _stack_batch_gt of its own, so it learns from more than classes')
    return head_class


def _check_classifier(head):
    """Refuse a head whose ``conv_seg`` is no weight vector a class."""
    conv = getattr(head, 'conv_seg', None)
    if not isinstance(conv, nn.Conv2d) or conv.kernel_size != (1, 1) or conv.groups != 1:
        _refuse(_wrapped_name(head), f'its conv_seg must be a 1×1 Conv2d, got {conv}')
    if head.out_channels == 1:
        reason = 'one output leaves no classes to compare; it needs two or more out_channels'
        _refuse(_wrapped_name(head), reason)


def _check_losses(head):
    """Refuse a loss that only a ``loss_by_feat`` of the head's own can call, not that of CAC."""
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

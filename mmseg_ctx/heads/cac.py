"""Context-aware classifier (CAC), which rewrites a decode head's classifier for each image.

Tian et al., "Learning Context-aware Classifier for Semantic Segmentation", AAAI 2023,
https://arxiv.org/abs/2303.11633.

1. The head's own classifier predicts the classes of each pixel: the prior.
2. The features of an image are averaged over each predicted class: the class prototypes.
3. A projector, a small network, turns the prototype and the weights of each class into new weights.
   These classify the image by cosine similarity: the refined prediction.
4. In training, the ground truth gives prototypes and weights in the same way: the oracle. The
   refined prediction learns to imitate the oracle's.

``ContextAwareClassifier`` is a layer that stands in the place of a 1×1 convolution, and does steps
1 to 3. ``ContextAwareClassifierLosses`` are the losses of prior and oracle, and step 4.
``ContextAwareClassifierHead`` puts both into a decode head.
"""

import inspect
from contextlib import contextmanager
from functools import partial
from threading import get_ident
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads import DDRHead, STDCHead
from mmseg.models.decode_heads.cascade_decode_head import BaseCascadeDecodeHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import nn

from mmseg_ctx.losses import ClassEntropyKLLoss
from mmseg_ctx.losses.head_losses import head_losses, loss_modules, losses_of_logits
from mmseg_ctx.ops import (
    ResizableLogits,
    at_least_float32,
    autocast_off,
    check_labels,
    class_prototypes,
    cosine_logits,
    dot_logits,
    mask_ignored,
    one_hot,
    resize_labels,
)
from mmseg_ctx.utils.arguments import NonNegative, Positive, PositiveInt, validate_arguments
from mmseg_ctx.utils.errors import one_line
from mmseg_ctx.utils.recording import show

PROJECTORS = ('estimate_projector', 'oracle_projector')


class Step(NamedTuple):
    """What the context-aware classifier keeps of a training step, for its losses."""

    features: torch.Tensor  # f, [B, d, h, w]
    prior: torch.Tensor  # p, logits of the original classifier, [B, N, h, w]
    refined: torch.Tensor  # p_p, logits of the refined classifier, [B, N, h, w]
    has_gradients: bool  # whether autograd recorded how they were computed


class ContextAwareClassifier(nn.Conv2d):
    """A 1×1 convolution whose output is the refined prediction p_p instead of the prior p.

    It has the convolution's ``weight`` and ``bias``, and two projectors besides:
    ``estimate_projector`` of the refined classifier, and ``oracle_projector``.

    Args:
        conv (nn.Conv2d): The convolution. The layer takes over its parameters.
        dropout (nn.Module | None): Dropout of the prior's features. The features of the prototypes
            are not dropped, as in the released code. Default: None.
        temperature (float): τ, which multiplies the cosines. Default: 15.0, as in the paper.
        projector_channels (int | None): Hidden width of the projectors; None for half of the
            classifier's width. Default: None.
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
        ValueError: ``conv`` reads more than each pixel by itself, or has groups.

    Example:
        >>> classifier = ContextAwareClassifier(nn.Conv2d(16, 5, 1))
        >>> with classifier.training_step() as steps:
        ...     logits = classifier(torch.rand(2, 16, 8, 8))
        >>> logits.shape
        torch.Size([2, 5, 8, 8])
        >>> label = torch.zeros(2, 60, 60).long()
        >>> sorted(ContextAwareClassifierLosses()(classifier, steps[0], label))
        ['loss_kl', 'loss_oracle_ce', 'loss_prior_ce']
    """

    @validate_arguments
    def __init__(
        self,
        conv: nn.Conv2d,
        dropout: nn.Module | None = None,
        temperature: Positive = 15.0,
        projector_channels: PositiveInt | None = None,
        prior_logits: Literal['dot', 'cosine'] = 'dot',
        context_logits: Literal['cosine', 'dot'] = 'cosine',
        projector_input: Literal['concat', 'sum', 'prototype', 'none'] = 'concat',
        residual: Literal['none', 'classifier'] = 'none',
    ):
        if not _reads_each_pixel(conv):
            raise ValueError(f'conv must be a 1×1 convolution, got {one_line(conv)}')
        # On the meta device, since the parameters are the convolution's.
        super().__init__(conv.in_channels, conv.out_channels, 1, device='meta')
        self.weight, self.bias = conv.weight, conv.bias
        self.dropout = dropout
        self.temperature = temperature
        self.prior_product, self.context_product = prior_logits, context_logits
        self.projector_input, self.residual = projector_input, residual
        hidden_channels = projector_channels or max(conv.in_channels // 2, 1)
        for name in PROJECTORS:
            setattr(self, name, self._build_projector(hidden_channels))
        self._projectors = self._modules  # the dict that has them; a head moves them into its own
        if prior_logits == 'cosine' and self.bias is not None:
            self.bias.requires_grad_(False)
        self._evaluated = {}  # what evaluate asked for, by thread
        self._steps = None  # a list in training_step

    def _build_projector(self, hidden_channels):
        """Return a projector θ: two linear layers, or the identity."""
        if self.projector_input == 'none':
            return nn.Identity()
        width = self.in_channels  # d
        input_width = 2 * width if self.projector_input == 'concat' else width
        return nn.Sequential(
            nn.Linear(input_width, hidden_channels, bias=False),
            nn.ReLU(),
            nn.Linear(hidden_channels, width),
        )

    def evaluate(self, classifier, label=None):
        """Choose the classifier whose logits this thread, and no other, gets outside training.

        Args:
            classifier (str): ``'refined'``, ``'prior'`` or ``'oracle'``.
            label (Sequence[Tensor] | None): The oracle's labels: classes or -1, ``[H, W]`` for each
                image. Default: None.
        """
        self._evaluated.pop(get_ident(), None)
        if classifier != 'refined':
            self._evaluated[get_ident()] = classifier, label

    @property
    def evaluated(self):
        """tuple: What this thread asked for by :meth:`evaluate`: the classifier and the labels."""
        usual = 'refined', None
        return self._evaluated.get(get_ident(), usual) if self._evaluated else usual

    @contextmanager
    def training_step(self):
        """Yield a list to which each call of the layer adds a :class:`Step`, for the losses."""
        self._steps = []
        try:
            yield self._steps
        finally:
            self._steps = None

    def forward(self, features, label=None, scope='image'):
        """Classify each pixel with weights that are rewritten for its image.

        Args:
            features (Tensor): f, ``[B, d, h, w]``.
            label (Tensor | None): Classes or -1, ``[B, H, W]``. With it, the layer returns the
                oracle's logits. Default: None.
            scope (str): Whether oracle prototypes are averaged over each ``'image'`` or over the
                ``'batch'``. Default: ``'image'``.

        Returns:
            Tensor: Logits, ``[B, N, h, w]``, float32 or wider.
        """
        features = at_least_float32(features)  # converted once for everything below
        evaluated, labels = self.evaluated if self._steps is None else ('refined', None)
        if label is None and evaluated == 'oracle':
            label = torch.stack(tuple(labels)).to(features.device)
        if label is not None:
            return self.oracle_logits(features, resize_labels(label, features.shape[2:]), scope)
        prior = self.prior_logits(features if self.dropout is None else self.dropout(features))
        if evaluated == 'prior':
            return prior
        refined = self.refined_logits(features, prior)
        if self._steps is not None:
            self._steps.append(Step(features, prior, refined, torch.is_grad_enabled()))
        show(self, features=features, prior=prior, refined=refined)
        return refined

    def prior_logits(self, features):
        """Return the original classifier's logits p of features f ``[B, d, h, w]``."""
        # In float16 the logits overflow, and the prototypes are then not finite.
        with autocast_off(features):
            features = features.to(self.weight.dtype)
            if self.prior_product == 'dot':
                return super().forward(features)
            return cosine_logits(features, self.weight.flatten(1)[None], self.temperature)

    def refined_logits(self, features, prior):
        """Return p_p for f ``[B, d, h, w]`` and p; p and p_p are ``[B, N, h, w]`` (Eqs. 4 to 6)."""
        probabilities = at_least_float32(prior).softmax(dim=1)  # σ(p), [B, N, h, w]
        prototypes = class_prototypes(features, probabilities)  # C_p, [B, N, d]
        return self._context_logits(features, prototypes, 'estimate_projector')

    def oracle_logits(self, features, label, scope):
        """Return p_y ``[B, N, h, w]`` for f ``[B, d, h, w]`` and the ground truth (Eqs. 1 to 3).

        Args:
            features (Tensor): f, ``[B, d, h, w]``.
            label (Tensor): Classes ``[B, h, w]``, -1 where ignored. A class that is absent gets its
                weights in C as prototype.
            scope (str): ``'image'`` averages prototypes over each image, ``'batch'`` over all.
        """
        masks = one_hot(label, self.out_channels)  # y*, [B, N, h, w]
        absent = self.weight.flatten(1).detach()
        prototypes = class_prototypes(features, masks, absent, scope)  # C_y, [B, N, d]
        return self._context_logits(features, prototypes, 'oracle_projector')

    def _context_logits(self, features, prototypes, projector):
        """Classify by A = θ(prototypes ⊕ C) (Eqs. 2 and 3, or 5 and 6)."""
        with autocast_off(features):
            weight = self.weight.flatten(1)  # C, [N, d]
            inputs = prototypes = prototypes.to(weight.dtype)
            if self.projector_input == 'concat':
                inputs = torch.cat([prototypes, weight.expand_as(prototypes)], dim=2)
            elif self.projector_input == 'sum':
                inputs = prototypes + weight
            classifier = self._projectors[projector](inputs)  # A, [B, N, d]
            if self.residual == 'classifier':
                classifier = classifier + weight
        show(self, prototypes=prototypes, classifier=classifier)
        if self.context_product == 'dot':
            return dot_logits(features, classifier)
        return cosine_logits(features, classifier, self.temperature)


class ContextAwareClassifierLosses(nn.Module):
    """The losses that Eq. 8 adds to the loss of p_p: the losses of p and of p_y, and L_KL.

    Args:
        oracle_scope (str): Whether oracle prototypes and L_KL are averaged over the ``'batch'``, as
            in the released code, or over each ``'image'``, as in the paper. Default: ``'batch'``.
        loss_prior_weight (float): Weight of the losses of p; 0 skips them. Default: 1.0.
        loss_oracle_weight (float): Weight of the losses of p_y; 0 skips them. Default: 1.0.
        loss_kl (dict | None): Config of L_KL; None, or a ``loss_weight`` of 0, skips it.
            Default: ``dict(type='ClassEntropyKLLoss')``.
    """

    @validate_arguments
    def __init__(
        self,
        oracle_scope: Literal['batch', 'image'] = 'batch',
        loss_prior_weight: NonNegative = 1.0,
        loss_oracle_weight: NonNegative = 1.0,
        loss_kl: dict | None = dict(type='ClassEntropyKLLoss'),
    ):
        super().__init__()
        self.oracle_scope = oracle_scope
        self.loss_prior_weight, self.loss_oracle_weight = loss_prior_weight, loss_oracle_weight
        self.loss_kl = None if loss_kl is None else MODELS.build(loss_kl)
        if not isinstance(self.loss_kl, ClassEntropyKLLoss | None):
            raise TypeError(f'loss_kl must be a ClassEntropyKLLoss, got {loss_kl!r}')

    def forward(self, classifier, step, label, ignore_index=255, losses_of=None):
        """Return the losses of a training step.

        Args:
            classifier (ContextAwareClassifier): The layer.
            step (Step): What it kept in this step.
            label (Tensor): Classes or ``ignore_index``, ``[B, H, W]``.
            ignore_index (int | None): Label of pixels without a class. Default: 255.
            losses_of (Callable | None): Returns the losses, by name, of small logits
                ``[B, N, h, w]``. Default: None, for the mean cross-entropy of pixels with a class.

        Returns:
            dict[str, Tensor]: ``loss_prior_*``, ``loss_oracle_*`` and ``loss_kl``. The losses of
            prior and oracle have their names from ``losses_of``: ``loss_ce`` becomes
            ``loss_prior_ce``.
        """
        losses_of = losses_of or (lambda logits: _cross_entropy(logits, label, ignore_index))
        oracle_learns = self.loss_oracle_weight > 0
        oracle_teaches = self.loss_kl is not None and self.loss_kl.loss_weight > 0
        losses = {}
        if self.loss_prior_weight > 0:
            losses |= _renamed('prior', losses_of(step.prior), self.loss_prior_weight)
        if not oracle_learns and not oracle_teaches:
            return losses
        small = resize_labels(mask_ignored(label, ignore_index), step.features.shape[2:])
        oracle = classifier(step.features, small, self.oracle_scope)
        if isinstance(oracle, ResizableLogits):  # by the segmentor's hook on the layer
            oracle = oracle.small
        if oracle_learns:
            losses |= _renamed('oracle', losses_of(oracle), self.loss_oracle_weight)
        if oracle_teaches:
            logits = step.prior, step.refined, oracle
            losses['loss_kl'] = self.loss_kl(*logits, small, -1, self.oracle_scope)
        return losses


def _cross_entropy(logits, label, ignore_index):
    resized = F.interpolate(ResizableLogits(logits), label.shape[1:], mode='bilinear')
    ignored = -100 if ignore_index is None else ignore_index
    return dict(loss_ce=F.cross_entropy(resized, label.long(), ignore_index=ignored))


def _renamed(classifier, losses, weight):
    """Weigh losses; ``loss_ce`` becomes ``loss_prior_ce``, and ``ce`` becomes ``prior_ce``."""
    renamed = {}
    for name, value in losses.items():
        prefix = 'loss_' if name.startswith('loss_') else ''
        renamed[f'{prefix}{classifier}_{name.removeprefix(prefix)}'] = weight * value
    return renamed


@MODELS.register_module()
class ContextAwareClassifierHead(nn.Module):
    """Any decode head of MMSegmentation, with a classifier that adapts to each image.

    The head's ``conv_seg`` becomes a :class:`ContextAwareClassifier`. This object has the modules,
    parameters and buffers of the head under the same names, and the two projectors besides. A
    checkpoint of the model without CAC loads as it is. All other attributes and methods are the
    head's own. ``forward`` and ``predict`` return the refined logits p_p. Activation checkpointing
    of the whole head has no effect on ``loss``, since the losses need what the classifier computed;
    activation checkpointing of the head's layers works.

    Args:
        head (dict): Config of a ``BaseDecodeHead`` that classifies once, through ``cls_seg``.
        temperature (float): τ, which multiplies the cosines. Default: 15.0, as in the paper.
        oracle_scope (str): Whether oracle prototypes and L_KL are averaged over the ``'batch'``, as
            in the released code, or over each ``'image'``, as in the paper. Default: ``'batch'``.
        loss_prior_weight (float): Weight of the losses of p; 0 skips them. Default: 1.0.
        loss_oracle_weight (float): Weight of the losses of p_y; 0 skips them, and the oracle's
            projector is then not trained. Default: 1.0.
        loss_kl (dict | None): Config of L_KL; None skips it.
            Default: ``dict(type='ClassEntropyKLLoss')``.
        **classifier: Further arguments of :class:`ContextAwareClassifier`: ``projector_channels``,
            ``prior_logits``, ``context_logits``, ``projector_input``, ``residual``.

    Raises:
        TypeError: The head cannot be wrapped; the message gives the reason.
        RuntimeError: The first ``loss`` raises this if the head does not classify exactly once, or
            computes its classifier without gradients.

    Example:
        >>> fcn = dict(type='FCNHead', in_channels=32, channels=16, num_classes=5)
        >>> head = ContextAwareClassifierHead(fcn)
        >>> head([torch.rand(2, 32, 8, 8)]).shape
        torch.Size([2, 5, 8, 8])
    """

    @validate_arguments
    def __init__(
        self,
        head: dict,
        temperature=15.0,
        oracle_scope='batch',
        loss_prior_weight=1.0,
        loss_oracle_weight=1.0,
        loss_kl=dict(type='ClassEntropyKLLoss'),
        **classifier,
    ):
        super().__init__()
        unknown = classifier.keys() - inspect.signature(ContextAwareClassifier).parameters.keys()
        if unknown:
            name = min(unknown)
            raise TypeError(
                f'ContextAwareClassifierHead has no argument {name!r}; arguments of the wrapped '
                f'head belong into head, such as decode_head.head.{name}'
            )
        head = MODELS.build(head)
        _refuse_if(_why_not_wrapped(head), head, TypeError)
        layer = ContextAwareClassifier(head.conv_seg, head.dropout, temperature, **classifier)
        head.conv_seg, head.dropout = layer, None
        # Share the head's modules and tensors. With the head as a child, each of their names would
        # begin with `head.`.
        for name in ('_modules', '_parameters', '_buffers'):
            vars(self)[name] = vars(head)[name]
        vars(self)['head'] = head
        vars(self).pop('training', None)  # so that it is the head's
        self.context_losses = ContextAwareClassifierLosses(
            oracle_scope, loss_prior_weight, loss_oracle_weight, loss_kl
        )
        # Beside the head's own modules, as in released checkpoints.
        for name in PROJECTORS:
            self._modules[name] = layer._modules.pop(name)
        layer._projectors = self._modules
        # Distributed training waits for the gradient of every parameter that requires one.
        self.oracle_projector.requires_grad_(loss_oracle_weight > 0)

    def __getattr__(self, name):
        head = vars(self).get('head')
        return super().__getattr__(name) if head is None else getattr(head, name)

    def __setattr__(self, name, value):
        head = vars(self).get('head')
        if head is not None and name in vars(head) and not name.startswith('_'):
            setattr(head, name, value)
        else:
            super().__setattr__(name, value)

    def init_weights(self):
        """Initialise the head's weights as it would without CAC."""
        info = vars(self).get('_params_init_info')  # MMEngine's, while it initialises a model
        if info is not None:
            self.head._params_init_info = info
        self.head.init_weights()
        vars(self.head).pop('_params_init_info', None)

    def forward(self, inputs, *args, **kwargs):
        """Return the head's output for the refined logits."""
        return self.head.forward(inputs, *args, **kwargs)

    def loss(self, inputs, *args, **kwargs):
        """Return the head's own losses, of the refined logits, and the losses of prior and oracle.

        Args:
            inputs (Sequence[Tensor]): Outputs of the backbone or the neck.
            *args: In a cascade the previous head's output; the data samples; ``train_cfg``.
            **kwargs: Passed on to the head's ``loss``.

        Returns:
            dict[str, Tensor]: The entries of both.
        """
        head, layer = self.head, self.conv_seg
        in_cascade = int(isinstance(head, BaseCascadeDecodeHead))
        samples = kwargs.get('batch_data_samples') or args[in_cascade]
        label = head._stack_batch_gt(samples).squeeze(1)  # [B, H, W]
        check_labels(label, head.num_classes, head.ignore_index)
        with layer.training_step() as steps:
            losses = head_losses(head, inputs, *args, **kwargs)
        _refuse_if(_why_not_learnt_from(steps), head, RuntimeError)
        criteria = loss_modules(head)
        if isinstance(head, (DDRHead, STDCHead)):
            criteria = criteria[:1]  # the others belong to the head's auxiliary map
        own = dict(label=label, criteria=criteria, with_accuracy=False)
        losses_of = partial(losses_of_logits, head, **own)
        return losses | self.context_losses(layer, steps[0], label, head.ignore_index, losses_of)

    def predict(self, inputs, *args, **kwargs):
        """Return logits ``[B, N, H, W]`` at the size of the images, as the head's ``predict`` does.

        Raises:
            ValueError: The oracle is evaluated on windows or on flipped images.
        """
        layer, predict = self.conv_seg, self.head.predict
        evaluated, labels = layer.evaluated
        if evaluated != 'oracle':
            return predict(inputs, *args, **kwargs)
        arguments = inspect.signature(predict).bind(inputs, *args, **kwargs).arguments
        mode = (arguments['test_cfg'] or {}).get('mode', 'whole')
        if mode != 'whole':
            raise ValueError(
                "the oracle classifier needs test_cfg mode 'whole', since it pools an image's "
                f'labels, got {mode!r}'
            )
        pairs = zip(labels, arguments['batch_img_metas'], strict=True)
        layer.evaluate('oracle', [_label_of_input(*pair, self.head) for pair in pairs])
        try:
            return predict(inputs, *args, **kwargs)
        finally:
            layer.evaluate('oracle', labels)


# MMSegmentation's and users' code asks for this class. Inheriting from it would hide the head's own
# methods.
BaseDecodeHead.register(ContextAwareClassifierHead)


def _label_of_input(label, meta, head):
    """Return an image's label ``[H, W]``, resized and padded like the network's input."""
    if meta.get('flip', False):
        raise ValueError(
            'the oracle classifier needs images that are not flipped, since labels are not flipped '
            'in testing'
        )
    check_labels(label, head.num_classes, head.ignore_index)
    height, width = meta['img_shape'][:2]
    padded_height, padded_width = meta.get('pad_shape', (height, width))[:2]
    label = mask_ignored(label.reshape(1, *label.shape[-2:]), head.ignore_index)
    label = resize_labels(label, (height, width))[0]
    return F.pad(label, (0, padded_width - width, 0, padded_height - height), value=-1)


def _refuse_if(reason, head, error):
    """Raise an error about a head, unless the reason is None."""
    if reason is not None:
        raise error(f'ContextAwareClassifierHead cannot wrap {type(head).__name__}: {reason}')


def _why_not_wrapped(head):
    if isinstance(head, ContextAwareClassifierHead):
        return 'it has a context-aware classifier already'
    if not isinstance(head, BaseDecodeHead):
        return 'it is no BaseDecodeHead'
    if type(head).cls_seg is not BaseDecodeHead.cls_seg:
        return 'it has a cls_seg of its own, so conv_seg alone does not classify'
    if type(head)._stack_batch_gt is not BaseDecodeHead._stack_batch_gt:
        return 'it has a _stack_batch_gt of its own, so it learns from more than classes'
    conv = getattr(head, 'conv_seg', None)
    if not isinstance(conv, nn.Conv2d) or not _reads_each_pixel(conv):
        return f'its conv_seg must be a 1×1 Conv2d, got {one_line(conv)}'
    if conv.out_channels != head.num_classes or head.num_classes < 2:
        return (
            f'its conv_seg must have an output for each of two or more classes, got '
            f'{conv.out_channels} for {head.num_classes}'
        )
    for criterion in loss_modules(head):
        try:  # as MMSegmentation's loss_by_feat calls it
            inspect.signature(criterion.forward).bind_partial(weight=None, ignore_index=None)
        except TypeError:
            return f'its loss {type(criterion).__name__} takes no weight and ignore_index'
    return None


def _reads_each_pixel(conv):
    """Whether a class's logit at a pixel is the product of one vector with the pixel's feature."""
    plain = (conv.kernel_size, conv.stride, conv.groups) == ((1, 1), (1, 1), 1)
    return plain and conv.padding in ((0, 0), 'same', 'valid')


def _why_not_learnt_from(steps):
    if not steps:
        return 'it does not classify through cls_seg'
    if len(steps) > 1:
        return f'it must classify once, through cls_seg, but called it {len(steps)} times'
    if torch.is_grad_enabled() and not steps[0].has_gradients:
        return (
            'its classifier is computed without gradients, as activation checkpointing with '
            'use_reentrant=True does: take use_reentrant=False, or leave conv_seg out of it'
        )
    return None

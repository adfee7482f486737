"""Context-aware classifier (CAC), which rewrites any decode head's classifier for each image.

Tian et al., "Learning Context-aware Classifier for Semantic Segmentation", AAAI 2023,
https://arxiv.org/abs/2303.11633. The features of an image, averaged over each class as the head's
own classifier predicts it, are class prototypes; a small projector turns a class's prototype and
its weights into the weights that classify this image, by cosine. In training, a second classifier
made from the ground truth in the same way, the oracle, is what the first learns to imitate.
"""

import functools
import inspect
from types import CodeType

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import CrossEntropyLoss
from mmseg.registry import MODELS
from torch import nn

from mmseg_ctx.losses import ClassEntropyKLLoss
from mmseg_ctx.ops import (
    autocast_off,
    check_labels,
    class_prototypes,
    cosine_logits,
    dot_logits,
    mask_ignored,
    one_hot,
    resize_labels,
    upsampled_cross_entropy,
    widen,
)
from mmseg_ctx.utils.arguments import (
    check_choice,
    check_head_arguments,
    check_index,
    check_inputs,
    check_int,
    check_number,
)

# How the original classifier, a 1×1 convolution, reads features [B, d, h, w] at temperature τ.
PRIOR_LOGITS = {
    'dot': lambda features, conv, temperature: conv(features),
    'cosine': lambda features, conv, temperature: cosine_logits(
        features, conv.weight.flatten(1)[None], temperature
    ),
}
# How a context-aware classifier [B, N, d] reads them.
CONTEXT_LOGITS = {
    'cosine': cosine_logits,
    'dot': lambda features, classifier, temperature: dot_logits(features, classifier),
}
# What a projector reads of prototypes [B, N, d] and the original classifier's weights [N, d].
PROJECTOR_INPUTS = {
    'concat': lambda prototypes, weight: torch.cat([prototypes, weight.expand_as(prototypes)], 2),
    'sum': torch.add,
    'prototype': lambda prototypes, weight: prototypes,
    'none': lambda prototypes, weight: prototypes,
}
# What becomes of rewritten weights [B, N, d] and the original ones [N, d].
RESIDUALS = {
    'none': lambda classifier, weight: classifier,
    'classifier': torch.add,
}


class ContextAwareClassifier:
    """Rewrites a classifier's weights from class prototypes, and applies them.

    Args:
        temperature (float): τ of the cosines.
        prior_logits (str): A name of ``PRIOR_LOGITS``.
        context_logits (str): A name of ``CONTEXT_LOGITS``.
        projector_input (str): A name of ``PROJECTOR_INPUTS``.
        residual (str): A name of ``RESIDUALS``.
    """

    def __init__(self, temperature, prior_logits, context_logits, projector_input, residual):
        self.temperature = check_number('temperature', temperature, exclusive=True)
        self.prior_logits = check_choice('prior_logits', prior_logits, PRIOR_LOGITS)
        self.context_logits = check_choice('context_logits', context_logits, CONTEXT_LOGITS)
        self.projector_input = check_choice('projector_input', projector_input, PROJECTOR_INPUTS)
        self.residual = check_choice('residual', residual, RESIDUALS)

    def projector(self, width, hidden_width):
        """Return a projector θ for a classifier of the given width, d."""
        if self.projector_input == 'none':
            return nn.Identity()
        input_width = 2 * width if self.projector_input == 'concat' else width
        return nn.Sequential(
            nn.Linear(input_width, hidden_width, bias=False),
            nn.ReLU(),
            nn.Linear(hidden_width, width),
        )

    def prior(self, features, conv):
        """Return the original classifier's logits p, ``[B, N, h, w]``."""
        # In float16 they overflow, and no prototype is finite then.
        with autocast_off(features):
            features = features.to(conv.weight.dtype)
            return PRIOR_LOGITS[self.prior_logits](features, conv, self.temperature)

    def __call__(self, features, prototypes, weight, projector):
        """Return the logits of the classifier A = θ(prototypes ⊕ C) (Eqs. 2 and 3, or 5 and 6).

        Args:
            features (Tensor): f, ``[B, d, h, w]``.
            prototypes (Tensor): C_y or C_p, ``[B, N, d]``, or ``[1, N, d]`` for all images.
            weight (Tensor): C, ``[N, d]``.
            projector (nn.Module): θ.

        Returns:
            Tensor: p_y or p_p, ``[B, N, h, w]``.
        """
        with autocast_off(features):
            read = PROJECTOR_INPUTS[self.projector_input](prototypes.to(weight.dtype), weight)
            classifier = RESIDUALS[self.residual](projector(read), weight)  # A, [B, N, d]
        return CONTEXT_LOGITS[self.context_logits](features, classifier, self.temperature)


@MODELS.register_module()
class ContextAwareClassifierHead:
    """Any decode head of MMSegmentation, with a classifier that adapts to each image.

    Building one gives a head whose class inherits from this class and then from the wrapped head's.
    So it has the parts, attributes, signatures and state dict of the wrapped head, plus
    ``estimate_projector`` and ``oracle_projector``, and a checkpoint of the unwrapped model loads
    as it is. ``forward`` and ``predict`` return the refined logits p_p.

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
        TypeError: An argument of the wrong type, or a head that cannot be wrapped, with the reason.
        ValueError: An argument out of range.

    Example:
        >>> fcn = dict(type='FCNHead', in_channels=32, channels=16, num_classes=5)
        >>> head = ContextAwareClassifierHead(fcn)
        >>> head([torch.rand(2, 32, 8, 8)]).shape
        torch.Size([2, 5, 8, 8])
    """

    def __new__(cls, head, *args, **kwargs):
        return object.__new__(_adaptive_class(cls, _head_class(head)))

    def __reduce__(self):
        # A class that was made when it was needed is made again where it is unpickled or copied.
        return _unpickle, type(self).__bases__, self.__dict__

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
        self.context_classifier = ContextAwareClassifier(
            temperature, prior_logits, context_logits, projector_input, residual
        )
        self.oracle_scope = check_choice('oracle_scope', oracle_scope, ('batch', 'image'))
        self.loss_prior_weight = check_number('loss_prior_weight', loss_prior_weight)
        self.loss_oracle_weight = check_number('loss_oracle_weight', loss_oracle_weight)
        self.loss_kl = None if loss_kl is None else _build_loss_kl(loss_kl)
        width = self.conv_seg.in_channels
        if projector_channels is None:
            projector_channels = max(width // 2, 1)
        check_int('projector_channels', projector_channels)
        self.estimate_projector = self.context_classifier.projector(width, projector_channels)
        self.oracle_projector = self.context_classifier.projector(width, projector_channels)
        # Distributed training waits for the gradient of every parameter that asks for one.
        self.oracle_projector.requires_grad_(loss_oracle_weight > 0)
        if prior_logits == 'cosine' and self.conv_seg.bias is not None:
            self.conv_seg.bias.requires_grad_(False)
        self._classified = None  # what cls_seg saw, while losses are computed
        self._evaluated = 'refined', None  # the classifier that predicts, and its labels

    def _init_inputs(self, in_channels, in_index, input_transform):
        check_inputs(in_channels, in_index, input_transform)
        super()._init_inputs(in_channels, in_index, input_transform)

    def _transform_inputs(self, inputs):
        check_index(inputs, self.in_index)
        return super()._transform_inputs(inputs)

    def cls_seg(self, feat):
        """Classify each pixel with weights that are rewritten for its image (Eqs. 4 to 6).

        Args:
            feat (Tensor): What the head's own classifier would see, ``[B, d, h, w]``.

        Returns:
            Tensor: Refined logits p_p, ``[B, N, h, w]``.
        """
        feat = widen(feat)  # once, for all that reads it
        dropped = feat if self.dropout is None else self.dropout(feat)
        prior = self.context_classifier.prior(dropped, self.conv_seg)  # p
        classifier, label = self._evaluated
        if classifier == 'prior':
            return prior
        if classifier == 'oracle':
            return self._oracle_logits(feat, resize_labels(label, feat.shape[2:]), 'image')
        prototypes = class_prototypes(feat, widen(prior).softmax(dim=1))  # C_p, [B, N, d]
        weight = self.conv_seg.weight.flatten(1)  # C, [N, d]
        refined = self.context_classifier(feat, prototypes, weight, self.estimate_projector)
        if self._classified is not None:
            self._classified.append((feat, prior, refined))
        return refined

    def _oracle_logits(self, features, label, scope):
        """Return p_y (Eqs. 1 to 3) for labels ``[B, h, w]``; an absent class's prototype is C's."""
        weight = self.conv_seg.weight.flatten(1)  # C, [N, d]
        masks = one_hot(label, self.num_classes)  # [B, N, h, w]
        prototypes = class_prototypes(features, masks, weight.detach(), scope)  # C_y
        return self.context_classifier(features, prototypes, weight, self.oracle_projector)

    def loss(self, *args, **kwargs):
        """Return the wrapped head's own losses, computed on p_p, and those of CAC (Eq. 8).

        Args:
            *args: As of the wrapped head: inputs, previous output if in a cascade, data samples,
                training config.
            **kwargs: Likewise.

        Returns:
            dict[str, Tensor]: The wrapped head's entries; ``loss_prior*`` and ``loss_oracle*``, the
            entries of ``loss_decode`` on p and p_y; ``loss_kl``.
        """
        samples = kwargs.get('batch_data_samples') or args[-1 if 'train_cfg' in kwargs else -2]
        label = self._stack_batch_gt(samples).squeeze(1).long()  # [B, H, W]
        check_labels(label, self.num_classes, self.ignore_index)
        self._classified = []
        try:
            losses = super().loss(*args, **kwargs)
            classified = self._classified
        finally:
            self._classified = None
        if len(classified) != 1:
            raise RuntimeError(
                f'{type(self).__name__} must classify once, through cls_seg, but called it '
                f'{len(classified)} times'
            )
        losses.update(self._context_losses(*classified[0], label, samples))
        return losses

    def _context_losses(self, features, prior, refined, label, samples):
        """Return the losses of p and p_y, and L_KL."""
        losses = {}
        if self.loss_prior_weight > 0:
            losses.update(self._extra_losses('prior', prior, samples, self.loss_prior_weight))
        teaches = self.loss_kl is not None and self.loss_kl.loss_weight > 0
        if not teaches and self.loss_oracle_weight == 0:
            return losses
        label = resize_labels(mask_ignored(label, self.ignore_index), features.shape[2:])
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.loss_oracle_weight > 0):
            oracle = self._oracle_logits(features, label, self.oracle_scope)
        if self.loss_oracle_weight > 0:
            losses.update(self._extra_losses('oracle', oracle, samples, self.loss_oracle_weight))
        if teaches:
            losses['loss_kl'] = self.loss_kl(
                prior, refined, oracle, label, ignore_index=-1, scope=self.oracle_scope
            )
        return losses

    def _extra_losses(self, name, logits, samples, weight):
        """Return the losses of ``loss_decode`` on other logits, named after them."""
        if _is_plain_cross_entropy(self):
            losses = _fused_losses(self, logits, samples)
        else:
            losses = BaseDecodeHead.loss_by_feat(self, logits, samples)
            losses.pop('acc_seg')
        return {_rename(loss, name): weight * value for loss, value in losses.items()}

    def loss_by_feat(self, seg_logits, batch_data_samples, *args, **kwargs):
        """Return the wrapped head's losses of its logits, without full-size logits if it can.

        Args:
            seg_logits (Tensor | tuple): What the wrapped head's ``forward`` returns.
            batch_data_samples (list[SegDataSample]): With the labels ``gt_sem_seg``.
            *args: As of the wrapped head.
            **kwargs: Likewise.

        Returns:
            dict[str, Tensor]: Losses, and ``acc_seg``.
        """
        wrapped = super().loss_by_feat
        if wrapped.__func__ is BaseDecodeHead.loss_by_feat and _is_plain_cross_entropy(self):
            return _fused_losses(self, seg_logits, batch_data_samples, with_accuracy=True)
        return wrapped(seg_logits, batch_data_samples, *args, **kwargs)

    def predict(self, *args, **kwargs):
        """Return the refined logits at the images' size, or those ``EvaluatedClassifierHook`` asks.

        Args:
            *args: As of the wrapped head: inputs, previous output if in a cascade, meta
                information, test config.
            **kwargs: Likewise.

        Returns:
            Tensor: ``[B, N, H, W]``.
        """
        metas = kwargs.get('batch_img_metas') or args[-1 if 'test_cfg' in kwargs else -2]
        test_cfg = kwargs['test_cfg'] if 'test_cfg' in kwargs else args[-1]
        self._evaluated = _evaluated(metas, test_cfg, self)
        try:
            return super().predict(*args, **kwargs)
        finally:
            self._evaluated = 'refined', None


def _evaluated(metas, test_cfg, head):
    """Return the classifier that ``EvaluatedClassifierHook`` set, and labels ``[B, H, W]``."""
    classifier, _ = metas[0].get('evaluated_classifier', ('refined', None))
    if classifier != 'oracle':
        return classifier, None
    if test_cfg is not None and test_cfg.get('mode', 'whole') != 'whole':
        raise ValueError(
            "the oracle classifier needs test_cfg mode 'whole', since it pools an image's labels, "
            f'got {test_cfg["mode"]!r}'
        )
    if any(meta.get('flip', False) for meta in metas):
        raise ValueError('the oracle classifier needs images that are not flipped, as labels are')
    labels = [_pad_label(meta, head.ignore_index) for meta in metas]
    label = torch.stack(labels).to(head.conv_seg.weight.device)
    check_labels(label, head.num_classes, head.ignore_index)
    return classifier, mask_ignored(label, head.ignore_index)


def _pad_label(meta, ignore_index):
    """Return the label in ``meta`` at the size of the network's input, padded as the image is."""
    _, label = meta['evaluated_classifier']  # [1, H, W]
    height, width = meta['img_shape'][:2]
    bottom, right = (
        padded - size
        for padded, size in zip(
            meta.get('pad_shape', (height, width)), (height, width), strict=False
        )
    )
    return F.pad(
        resize_labels(label, (height, width))[0], (0, right, 0, bottom), value=ignore_index
    )


def _is_plain_cross_entropy(head):
    """Whether ``loss_decode`` is what ``upsampled_cross_entropy`` computes."""
    return (
        head.sampler is None
        and head.ignore_index is not None
        and all(
            type(loss) is CrossEntropyLoss
            and not (loss.use_sigmoid or loss.use_mask)
            and loss.reduction == 'mean'
            for loss in _loss_modules(head)
        )
    )


def _loss_modules(head):
    losses = head.loss_decode
    return losses if isinstance(losses, nn.ModuleList) else [losses]


def _fused_losses(head, logits, samples, with_accuracy=False):
    """Return what ``BaseDecodeHead.loss_by_feat`` returns, without full-size logits."""
    label = head._stack_batch_gt(samples).squeeze(1).long()  # [B, H, W]
    losses = {}
    for criterion in _loss_modules(head):
        loss, accuracy = upsampled_cross_entropy(
            logits,
            label,
            class_weight=criterion.class_weight,
            ignore_index=head.ignore_index,
            avg_non_ignore=criterion.avg_non_ignore,
            align_corners=head.align_corners,
            with_accuracy=with_accuracy,
        )
        name = criterion.loss_name
        losses[name] = losses.get(name, 0) + criterion.loss_weight * loss
    return losses | {'acc_seg': accuracy} if with_accuracy else losses


def _rename(loss_name, classifier):
    """Return the name of a loss on another classifier's logits.

    MMEngine optimises what has ``loss`` in its name, so one without keeps doing without.
    """
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
    if not any(_names_cls_seg(method) for method in _methods(head_class)):
        _refuse(name, 'it does not classify through cls_seg')
    if head_class._stack_batch_gt is not BaseDecodeHead._stack_batch_gt:
        _refuse(name, 'it has a _stack_batch_gt of its own, so it learns from more than classes')
    return head_class


def _check_classifier(head):
    """Refuse a head whose ``conv_seg`` is no weight vector a class."""
    name = type(head).__bases__[-1].__name__
    conv = getattr(head, 'conv_seg', None)
    if not isinstance(conv, nn.Conv2d) or conv.kernel_size != (1, 1) or conv.groups != 1:
        _refuse(name, f'its conv_seg must be a 1×1 Conv2d, got {conv}')
    if head.out_channels == 1:
        _refuse(name, 'one output leaves no classes to compare; it needs two or more out_channels')


def _refuse(name, reason):
    raise TypeError(f'ContextAwareClassifierHead cannot wrap {name}: {reason}')


def _check_losses(head):
    """Refuse a loss that only a ``loss_by_feat`` of the head's own can call, not that of CAC."""
    for criterion in _loss_modules(head):
        parameters = inspect.signature(criterion.forward).parameters.values()
        names = {parameter.name for parameter in parameters}
        anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        if not anything and not {'weight', 'ignore_index'} <= names:
            _refuse(
                type(head).__bases__[-1].__name__,
                f'its loss {type(criterion).__name__} takes no weight and ignore_index',
            )


def _build_loss_kl(config):
    if not isinstance(config, dict) or 'type' not in config:
        raise TypeError(f"loss_kl must be None or a dict with a 'type', got {config!r}")
    loss = MODELS.build(config)
    if not isinstance(loss, ClassEntropyKLLoss):
        raise TypeError(f'loss_kl must be a ClassEntropyKLLoss, got {config["type"]!r}')
    return loss


def _methods(head_class):
    """Yield the functions that run for a head, of its class and the bases before the base class.

    An override hides what it overrides, unless it calls that: then it has its name in its code.
    """
    own = [base for base in head_class.__mro__ if base not in BaseDecodeHead.__mro__]
    for name in {name for base in own for name in vars(base)}:
        for base in own:
            method = (
                inspect.unwrap(vars(base).get(name)) if callable(vars(base).get(name)) else None
            )
            if inspect.isfunction(method):
                yield method
                if not _names(method.__code__, name):
                    break


def _names_cls_seg(function):
    """Whether a function names ``cls_seg``, or what it wraps, or one of its module's it calls."""
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    called = [
        function.__globals__.get(name) for name in function.__code__.co_names if name != 'cls_seg'
    ]
    inner = [each for each in [*cells, *called] if inspect.isfunction(each)]
    return any(_names(each.__code__, 'cls_seg') for each in [function, *inner])


def _names(code, name):
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return name in code.co_names or any(_names(function, name) for function in inner)


@functools.cache
def _adaptive_class(wrapper, head_class):
    """Return the subclass of both that puts ``wrapper``'s methods before ``head_class``'s."""
    name = f'ContextAware{head_class.__name__}'
    attributes = {'__module__': wrapper.__module__, '__doc__': wrapper.__doc__}
    return type(name, (wrapper, head_class), attributes)


def _unpickle(wrapper, head_class):
    return object.__new__(_adaptive_class(wrapper, head_class))

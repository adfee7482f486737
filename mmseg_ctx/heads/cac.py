"""Context-aware classifier (CAC), which rewrites a decode head's classifier for each image.

Tian et al., "Learning Context-aware Classifier for Semantic Segmentation", AAAI 2023,
https://arxiv.org/abs/2303.11633.

1. The head's own classifier predicts the classes of each pixel: the prior.
2. The features of an image are averaged over each predicted class: the class prototypes.
3. A projector, a small network, turns the prototype and the weights of each class into new weights.
   These classify the image by cosine similarity: the refined prediction.
4. In training, the ground truth gives prototypes and weights in the same way: the oracle. The
   refined prediction learns to imitate the oracle's.

This file has the classifier and its losses. ``wrapping.py`` puts it into a decode head.
"""

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import nn

from mmseg_ctx.heads.wrapping import WrappedHead
from mmseg_ctx.losses import ClassEntropyKLLoss
from mmseg_ctx.losses.memory_efficient import losses_without_accuracy
from mmseg_ctx.ops import (
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
from mmseg_ctx.utils.arguments import check_choice, check_config, check_int, check_number


@MODELS.register_module()
class ContextAwareClassifierHead(WrappedHead):
    """Any decode head of MMSegmentation, with a classifier that adapts to each image.

    The object inherits from this class and from the wrapped head's class. So it has the modules,
    attributes and state dict of the wrapped head, and two projectors besides:
    ``estimate_projector`` of the refined classifier, and ``oracle_projector``. A checkpoint of the
    model without CAC loads as it is. ``forward`` and ``predict`` return the refined logits p_p.

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
        super().__init__(head)
        products = ('dot', 'cosine')
        # Some attributes are not named like their arguments: prior_logits is a method here, and
        # the wrapped head may have a temperature or residual of its own.
        self.cosine_temperature = check_number('temperature', temperature, exclusive=True)
        self.prior_product = check_choice('prior_logits', prior_logits, products)
        self.context_product = check_choice('context_logits', context_logits, products)
        self.projector_input = check_choice(
            'projector_input', projector_input, ('concat', 'sum', 'prototype', 'none')
        )
        self.classifier_residual = check_choice('residual', residual, ('none', 'classifier'))
        self.oracle_scope = check_choice('oracle_scope', oracle_scope, ('batch', 'image'))
        self.loss_prior_weight = check_number('loss_prior_weight', loss_prior_weight)
        self.loss_oracle_weight = check_number('loss_oracle_weight', loss_oracle_weight)
        self.loss_kl = None if loss_kl is None else _build_loss_kl(loss_kl)
        if projector_channels is None:
            projector_channels = max(self.conv_seg.in_channels // 2, 1)
        check_int('projector_channels', projector_channels)
        self.estimate_projector = self._build_projector(projector_channels)
        self.oracle_projector = self._build_projector(projector_channels)
        # Distributed training waits for the gradient of every parameter that requires one.
        self.oracle_projector.requires_grad_(loss_oracle_weight > 0)
        if prior_logits == 'cosine' and self.conv_seg.bias is not None:
            self.conv_seg.bias.requires_grad_(False)

    def _build_projector(self, hidden_channels):
        """Return a projector θ: two linear layers, or the identity."""
        if self.projector_input == 'none':
            return nn.Identity()
        width = self.conv_seg.in_channels  # d
        input_width = 2 * width if self.projector_input == 'concat' else width
        return nn.Sequential(
            nn.Linear(input_width, hidden_channels, bias=False),
            nn.ReLU(),
            nn.Linear(hidden_channels, width),
        )

    def classify_in_context(self, features, classifier='refined', label=None):
        """Classify each pixel with weights that are rewritten for its image.

        Args:
            features (Tensor): f, ``[B, d, h, w]``.
            classifier (str): ``'prior'``, ``'refined'`` or ``'oracle'``. Default: ``'refined'``.
            label (Tensor | None): The oracle's, classes or -1, ``[B, H, W]``. Default: None.

        Returns:
            tuple[Tensor, tuple[Tensor]]: The classifier's logits, ``[B, N, h, w]``. If it is the
            refined one, the first three arguments of ``context_losses``.
        """
        features = at_least_float32(features)  # converted once for everything below
        # As in the released code, dropout reaches the prior alone.
        dropped = features if self.dropout is None else self.dropout(features)
        prior = self.prior_logits(dropped)
        if classifier == 'prior':
            return prior, ()
        if classifier == 'oracle':
            label = resize_labels(label, features.shape[2:])
            return self.oracle_logits(features, label, 'image'), ()
        refined = self.refined_logits(features, prior)
        return refined, (features, prior, refined)

    @property
    def classifier_weight(self):
        """C, the weights of the original classifier, ``[N, d]``."""
        return self.conv_seg.weight.flatten(1)

    def prior_logits(self, features):
        """Return the original classifier's logits p of features f ``[B, d, h, w]``."""
        # In float16 the logits overflow, and the prototypes are then not finite.
        with autocast_off(features):
            features = features.to(self.conv_seg.weight.dtype)
            if self.prior_product == 'dot':
                return self.conv_seg(features)
            return cosine_logits(features, self.classifier_weight[None], self.cosine_temperature)

    def refined_logits(self, features, prior):
        """Return the logits of the classifier made from the prior (Eqs. 4 to 6).

        Args:
            features (Tensor): f, ``[B, d, h, w]``.
            prior (Tensor): p, ``[B, N, h, w]``.

        Returns:
            Tensor: p_p, ``[B, N, h, w]``.
        """
        probabilities = at_least_float32(prior).softmax(dim=1)  # σ(p), [B, N, h, w]
        prototypes = class_prototypes(features, probabilities)  # C_p, [B, N, d]
        return self._context_logits(features, prototypes, self.estimate_projector)

    def oracle_logits(self, features, label, scope):
        """Return the logits of the classifier made from the ground truth (Eqs. 1 to 3).

        Args:
            features (Tensor): f, ``[B, d, h, w]``.
            label (Tensor): Classes ``[B, h, w]``, -1 where ignored. A class that is absent gets its
                weights in C as prototype.
            scope (str): ``'image'`` averages prototypes over each image, ``'batch'`` over all.

        Returns:
            Tensor: p_y, ``[B, N, h, w]``.
        """
        masks = one_hot(label, self.num_classes)  # y*, [B, N, h, w]
        absent = self.classifier_weight.detach()
        prototypes = class_prototypes(features, masks, absent, scope)  # C_y, [B, N, d]
        return self._context_logits(features, prototypes, self.oracle_projector)

    def _context_logits(self, features, prototypes, projector):
        """Classify by A = θ(prototypes ⊕ C) (Eqs. 2 and 3, or 5 and 6)."""
        with autocast_off(features):
            weight = self.classifier_weight
            prototypes = prototypes.to(weight.dtype)
            if self.projector_input == 'concat':
                prototypes = torch.cat([prototypes, weight.expand_as(prototypes)], dim=2)
            elif self.projector_input == 'sum':
                prototypes = prototypes + weight
            classifier = self.rewritten_weight(projector(prototypes))  # A, [B, N, d]
        if self.context_product == 'dot':
            return dot_logits(features, classifier)
        return cosine_logits(features, classifier, self.cosine_temperature)

    def rewritten_weight(self, projected):
        """Return the weights A for a projector's output, both ``[B, N, d]`` (Table 5)."""
        if self.classifier_residual == 'classifier':
            return projected + self.classifier_weight
        return projected

    def context_losses(self, features, prior, refined, label, batch_data_samples):
        """Return the losses that Eq. 8 adds to those of p_p: those of p and p_y, and L_KL.

        Args:
            features (Tensor): f, ``[B, d, h, w]``.
            prior (Tensor): p, ``[B, N, h, w]``.
            refined (Tensor): p_p, ``[B, N, h, w]``.
            label (Tensor): Classes or ``ignore_index``, ``[B, H, W]``.
            batch_data_samples (list[SegDataSample]): Samples with the same labels.

        Returns:
            dict[str, Tensor]: ``loss_prior*``, ``loss_oracle*`` and ``loss_kl``.
        """
        losses = {}
        if self.loss_prior_weight > 0:
            losses |= self.classifier_losses(
                'prior', prior, batch_data_samples, self.loss_prior_weight
            )
        oracle_teaches = self.loss_kl is not None and self.loss_kl.loss_weight > 0
        if not oracle_teaches and self.loss_oracle_weight == 0:
            return losses
        label = resize_labels(mask_ignored(label, self.ignore_index), features.shape[2:])
        # Without a loss of its own, the oracle needs no gradient: L_KL sends none to it.
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.loss_oracle_weight > 0):
            oracle = self.oracle_logits(features, label, self.oracle_scope)
        if self.loss_oracle_weight > 0:
            losses |= self.classifier_losses(
                'oracle', oracle, batch_data_samples, self.loss_oracle_weight
            )
        if oracle_teaches:
            losses['loss_kl'] = self.loss_kl(
                prior, refined, oracle, label, ignore_index=-1, scope=self.oracle_scope
            )
        return losses

    def classifier_losses(self, name, logits, batch_data_samples, weight):
        """Return the losses of ``loss_decode`` on the logits of the prior or the oracle.

        Args:
            name (str): ``'prior'`` or ``'oracle'``.
            logits (Tensor): ``[B, N, h, w]``.
            batch_data_samples (list[SegDataSample]): Samples with labels, ``gt_sem_seg``.
            weight (float): Factor of each loss.

        Returns:
            dict[str, Tensor]: The losses, whose names now have ``name`` in them: ``loss_ce``
            becomes ``loss_prior_ce``, and ``ce`` becomes ``prior_ce``. (MMEngine optimises the
            entries that have ``loss`` in their name, so it must not be added.)
        """
        losses = losses_without_accuracy(self, logits, batch_data_samples)
        return {_rename(loss, name): weight * value for loss, value in losses.items()}

    def evaluated_classifier(self, batch_img_metas, test_cfg):
        """Return the arguments of ``classify_in_context`` that ``EvaluatedClassifierHook`` chose.

        Args:
            batch_img_metas (list[dict]): Meta information of each image.
            test_cfg (dict): As for ``predict``.

        Returns:
            dict: ``classifier``, ``'refined'`` without the hook, and the oracle's ``label``.

        Raises:
            ValueError: An image has no oracle: it is flipped, or is predicted in windows.
        """
        classifier, _ = batch_img_metas[0].get('evaluated_classifier', ('refined', None))
        if classifier != 'oracle':
            return dict(classifier=classifier)
        if test_cfg is not None and test_cfg.get('mode', 'whole') != 'whole':
            raise ValueError(
                "the oracle classifier needs test_cfg mode 'whole', since it pools an image's "
                f'labels, got {test_cfg["mode"]!r}'
            )
        if any(meta.get('flip', False) for meta in batch_img_metas):
            raise ValueError(
                'the oracle classifier needs images that are not flipped, since labels are not '
                'flipped in testing'
            )
        label = torch.stack([_label_of_input(meta, self) for meta in batch_img_metas])
        return dict(classifier='oracle', label=label.to(self.conv_seg.weight.device))


def _label_of_input(meta, head):
    """Return an image's label, resized and padded like the network's input, -1 for no class."""
    _, label = meta['evaluated_classifier']  # [1, H, W]
    check_labels(label, head.num_classes, head.ignore_index)
    height, width = meta['img_shape'][:2]
    padded_height, padded_width = meta.get('pad_shape', (height, width))[:2]
    label = resize_labels(mask_ignored(label, head.ignore_index), (height, width))[0]
    return F.pad(label, (0, padded_width - width, 0, padded_height - height), value=-1)


def _rename(loss_name, classifier):
    """Put a classifier's name into that of a loss; see ``classifier_losses``."""
    if loss_name.startswith('loss_'):
        return f'loss_{classifier}_{loss_name.removeprefix("loss_")}'
    return f'{classifier}_{loss_name}'


def _build_loss_kl(config):
    loss = MODELS.build(check_config('loss_kl', config, MODELS))
    if not isinstance(loss, ClassEntropyKLLoss):
        raise TypeError(f'loss_kl must be a ClassEntropyKLLoss, got {config["type"]!r}')
    return loss

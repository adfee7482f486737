"""Context-aware classifier (CAC), which rewrites a decode head's classifier for each image.

Tian et al., "Learning Context-aware Classifier for Semantic Segmentation", AAAI 2023,
https://arxiv.org/abs/2303.11633.

1. The head's own classifier predicts the classes of each pixel: the prior.
2. The features of an image are averaged over each predicted class: the class prototypes.
3. A projector, a small network, turns the prototype and the weights of each class into new weights.
   These classify the image by cosine similarity: the refined prediction.
4. In training, the ground truth gives prototypes and weights in the same way: the oracle. The
   refined prediction learns to imitate the oracle's.

This file has the classifier and its losses; ``wrapping.py`` joins them with a decode head.
"""

import torch
from mmseg.registry import MODELS
from torch import nn

from mmseg_ctx.losses import ClassEntropyKLLoss
from mmseg_ctx.ops import (
    at_least_float32,
    autocast_off,
    class_prototypes,
    cosine_logits,
    dot_logits,
    mask_ignored,
    one_hot,
    resize_labels,
)
from mmseg_ctx.utils.arguments import check_choice, check_config, check_int, check_number


class ContextAwareClassifier:
    """The equations of the paper, as methods that a decode head inherits.

    They read three attributes of the head: ``conv_seg``, a 1×1 convolution with the weights C
    ``[N, d]``, ``num_classes`` and ``ignore_index``. They call its method ``classifier_losses``.

    Attributes:
        estimate_projector (nn.Module): θ_p.
        oracle_projector (nn.Module): θ_y.
        loss_kl (ClassEntropyKLLoss | None): L_KL.
    """

    def init_context_aware_classifier(
        self,
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
    ):
        """Check the arguments of ``ContextAwareClassifierHead`` and build the projectors and loss.

        ``wrapping.py`` describes the arguments.
        """
        products = ('dot', 'cosine')
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
        prototypes = class_prototypes(
            features, at_least_float32(prior).softmax(dim=1)
        )  # C_p, [B, N, d]
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
        teaches = self.loss_kl is not None and self.loss_kl.loss_weight > 0
        if not teaches and self.loss_oracle_weight == 0:
            return losses
        label = resize_labels(mask_ignored(label, self.ignore_index), features.shape[2:])
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.loss_oracle_weight > 0):
            oracle = self.oracle_logits(features, label, self.oracle_scope)
        if self.loss_oracle_weight > 0:
            losses |= self.classifier_losses(
                'oracle', oracle, batch_data_samples, self.loss_oracle_weight
            )
        if teaches:
            losses['loss_kl'] = self.loss_kl(
                prior, refined, oracle, label, ignore_index=-1, scope=self.oracle_scope
            )
        return losses


def _build_loss_kl(config):
    loss = MODELS.build(check_config('loss_kl', config, MODELS))
    if not isinstance(loss, ClassEntropyKLLoss):
        raise TypeError(f'loss_kl must be a ClassEntropyKLLoss, got {config["type"]!r}')
    return loss

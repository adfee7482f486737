"""The papers' losses, registered in ``MODELS``, and any decode head's losses with less memory."""

from mmseg_ctx.losses.class_entropy_kl import ClassEntropyKLLoss
from mmseg_ctx.losses.class_probability import ClassProbabilityLoss
from mmseg_ctx.losses.head_losses import head_losses

__all__ = ['ClassEntropyKLLoss', 'ClassProbabilityLoss', 'head_losses']

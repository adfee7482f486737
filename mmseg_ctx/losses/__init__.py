"""The papers' losses, registered in ``MODELS``, and any head's losses with less memory."""

from mmseg_ctx.losses.class_entropy_kl import ClassEntropyKLLoss
from mmseg_ctx.losses.class_probability import ClassProbabilityLoss
from mmseg_ctx.losses.memory_efficient import use_memory_efficient_losses

__all__ = ['ClassEntropyKLLoss', 'ClassProbabilityLoss', 'use_memory_efficient_losses']

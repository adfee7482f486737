"""Losses of the papers; importing this registers them in ``mmseg.registry.MODELS``."""

from mmseg_ctx.losses.class_entropy_kl import ClassEntropyKLLoss
from mmseg_ctx.losses.class_probability import ClassProbabilityLoss

__all__ = ['ClassEntropyKLLoss', 'ClassProbabilityLoss']

"""Hooks for exact resuming, CAC's other classifiers, context pictures and validation losses."""

from mmseg_ctx.hooks.context_visualization import ContextVisualizationHook
from mmseg_ctx.hooks.evaluated_classifier import EvaluatedClassifierHook
from mmseg_ctx.hooks.exact_resume import ExactResumeHook
from mmseg_ctx.hooks.validation_loss import ValidationLossHook

__all__ = [
    'ContextVisualizationHook',
    'EvaluatedClassifierHook',
    'ExactResumeHook',
    'ValidationLossHook',
]

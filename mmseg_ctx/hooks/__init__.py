"""Hooks for exact resuming, for evaluating CAC's other classifiers, and for context pictures."""

from mmseg_ctx.hooks.context_visualization import ContextVisualizationHook
from mmseg_ctx.hooks.evaluated_classifier import EvaluatedClassifierHook
from mmseg_ctx.hooks.exact_resume import ExactResumeHook

__all__ = ['ContextVisualizationHook', 'EvaluatedClassifierHook', 'ExactResumeHook']

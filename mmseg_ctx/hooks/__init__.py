"""Hooks: exact resuming, another classifier of CAC's, pictures of the context."""

from mmseg_ctx.hooks.context_visualization import ContextVisualizationHook
from mmseg_ctx.hooks.evaluated_classifier import EvaluatedClassifierHook
from mmseg_ctx.hooks.exact_resume import ExactResumeHook

__all__ = ['ContextVisualizationHook', 'EvaluatedClassifierHook', 'ExactResumeHook']

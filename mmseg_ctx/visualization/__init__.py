"""Pictures of what a model predicts and of the context that its head uses."""

from mmseg_ctx.visualization.hook import ContextVisualizationHook

__all__ = ['ContextVisualizationHook']

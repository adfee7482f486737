"""The embedded data set and its transform; importing this registers them."""

from mmseg_ctx.datasets.context_scenes import ContextScenesDataset, RenderContextScene

__all__ = ['ContextScenesDataset', 'RenderContextScene']

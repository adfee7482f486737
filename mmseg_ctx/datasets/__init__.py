"""Context scenes with their transform, and CamVid; the import registers them."""

from mmseg_ctx.datasets.camvid import CamVidDataset
from mmseg_ctx.datasets.context_scenes import ContextScenesDataset, RenderContextScene

__all__ = ['CamVidDataset', 'ContextScenesDataset', 'RenderContextScene']

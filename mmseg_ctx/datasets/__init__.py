"""Data sets: the context scenes with their transform, and CamVid. Importing registers them."""

from mmseg_ctx.datasets.camvid import CamVidDataset
from mmseg_ctx.datasets.context_scenes import ContextScenesDataset, RenderContextScene

__all__ = ['CamVidDataset', 'ContextScenesDataset', 'RenderContextScene']

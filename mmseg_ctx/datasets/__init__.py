"""Data sets: the context scenes and CamVid. Importing registers them."""

from mmseg_ctx.datasets.camvid import CamVidDataset
from mmseg_ctx.datasets.context_scenes import ContextScenesDataset

__all__ = ['CamVidDataset', 'ContextScenesDataset']

"""The embedded data set, its transform and its metric; importing this registers them."""

from mmseg_ctx.datasets.context_iou import ContextIoUMetric
from mmseg_ctx.datasets.context_scenes import ContextScenesDataset, RenderContextScene
from mmseg_ctx.datasets.voc_results import VOCResultsMetric

__all__ = ['ContextIoUMetric', 'ContextScenesDataset', 'RenderContextScene', 'VOCResultsMetric']

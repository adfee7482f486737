"""Metrics: the IoU of groups of classes, and the files for the VOC server."""

from mmseg_ctx.evaluation.context_iou import ContextIoUMetric
from mmseg_ctx.evaluation.voc_results import VOCResultsMetric

__all__ = ['ContextIoUMetric', 'VOCResultsMetric']

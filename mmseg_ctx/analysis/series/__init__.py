"""What the benchmark compares: each series is a function from sizes to its comparisons."""

from mmseg_ctx.analysis.series.classifier import cac_inference, cac_loss, cac_sizes
from mmseg_ctx.analysis.series.heads import ctnet_linear, heads
from mmseg_ctx.analysis.series.resizing import labels, labels_slide, losses

_ALL = (heads, ctnet_linear, cac_loss, cac_inference, cac_sizes, losses, labels, labels_slide)
SERIES = {series.__name__.replace('_', '-'): series for series in _ALL}

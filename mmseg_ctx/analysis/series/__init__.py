"""What the benchmark compares: each series is a function from sizes to its comparisons."""

from mmseg_ctx.analysis.series.classifier import cac_cosine, cac_inference, cac_loss, cac_sizes
from mmseg_ctx.analysis.series.heads import ctnet_linear, heads
from mmseg_ctx.analysis.series.resizing import labels, labels_augmented, labels_slide, losses

_ALL = (heads, ctnet_linear, cac_loss, cac_cosine, cac_inference, cac_sizes)
_ALL += (losses, labels, labels_slide, labels_augmented)
SERIES = {series.__name__.replace('_', '-'): series for series in _ALL}

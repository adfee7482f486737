"""What the benchmark compares: each suite is a function from sizes to its comparisons."""

from mmseg_ctx.analysis.suites.cac import cac_cosine, cac_inference, cac_loss, cac_sizes
from mmseg_ctx.analysis.suites.heads import ctnet_linear, heads
from mmseg_ctx.analysis.suites.memory_efficient import (
    labels,
    labels_augmented,
    labels_slide,
    losses,
)

_ALL = (heads, ctnet_linear, cac_loss, cac_cosine, cac_inference, cac_sizes)
_ALL += (losses, labels, labels_slide, labels_augmented)
SUITES = {suite.__name__.replace('_', '-'): suite for suite in _ALL}

"""What the benchmark compares: each suite is a function from a setting to its comparisons."""

from mmseg_ctx.analysis.suites import cac, heads, labels, losses

SUITES = {
    'heads': heads.heads,
    'ctnet-linear': heads.ctnet_linear,
    'cac-loss': cac.cac_loss,
    'cac-cosine': cac.cac_cosine,
    'cac-inference': cac.cac_inference,
    'cac-sizes': cac.cac_sizes,
    'losses': losses.losses,
    'labels': labels.labels,
    'labels-slide': labels.labels_slide,
    'labels-augmented': labels.labels_augmented,
}

"""CTNet's spatial context beside a non-local block."""

from functools import partial

import torch
from mmcv.cnn.bricks import NonLocal2d

from mmseg_ctx.analysis.benchmark import Case, Comparison
from mmseg_ctx.analysis.complexity import count
from mmseg_ctx.analysis.models import CLASSES
from mmseg_ctx.analysis.suites.steps import forward_step
from mmseg_ctx.heads.ctnet import SpatialContextModule


def ctnet_linear(setting, channels=512):
    """CTNet's spatial context, linear in pixels, beside a non-local block, quadratic in them."""
    spatial_context = partial(SpatialContextModule, channels, norm_cfg=dict(type='BN'))
    non_local = partial(NonLocal2d, channels, norm_cfg=dict(type='BN'))
    comparisons = []
    for size in setting.sizes or (64, 128, 256):
        shapes = [(1, channels, size, size), (1, channels, CLASSES)]
        # The attention has a float for each pair of pixels, and its softmax lies beside it.
        needed = 2 * 4 * size**4
        cases = (
            _case('SpatialContextModule', spatial_context, shapes, setting),
            _case('NonLocal2d', non_local, shapes[:1], setting, needed_bytes=needed),
        )
        title = f'Spatial context: forward, [1, {channels}, {size}, {size}], {CLASSES} classes'
        comparisons.append(Comparison(title, cases, ('NonLocal2d',)))
    return comparisons


def _case(name, make, shapes, setting, **options):
    def prepare():
        return forward_step(make(), *map(torch.rand, shapes), setting=setting)

    with torch.device('meta'):
        complexity = count(make(), *map(torch.empty, shapes))
    return Case(name, prepare, complexity=complexity, **options)

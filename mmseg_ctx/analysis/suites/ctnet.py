"""CTNet's spatial context beside a non-local block."""

import torch
from mmcv.cnn.bricks import NonLocal2d

from mmseg_ctx.analysis.benchmark import Comparison
from mmseg_ctx.analysis.models import CLASSES
from mmseg_ctx.analysis.suites.steps import forward_case
from mmseg_ctx.heads.ctnet import SpatialContextModule


def ctnet_linear(setting, channels=512):
    """CTNet's spatial context, linear in pixels, beside a non-local block, quadratic in them."""
    for size in setting.sizes or (64, 128, 256):
        shapes = [(1, channels, size, size), (1, channels, CLASSES)]
        # The attention has a float for each pair of pixels, and its softmax lies beside it.
        needed = 2 * 4 * size**4
        cases = (
            _case(SpatialContextModule, shapes, setting),
            _case(NonLocal2d, shapes[:1], setting, needed_bytes=needed),
        )
        title = f'Spatial context: forward, [1, {channels}, {size}, {size}], {CLASSES} classes'
        yield Comparison(title, cases, ('NonLocal2d',))


def _case(kind, shapes, setting, **options):
    def make(device):
        return kind(shapes[0][1], norm_cfg=dict(type='BN')).to(device)

    def inputs(device):
        return [torch.rand(shape, device=device) for shape in shapes]

    return forward_case(kind.__name__, make, inputs, setting, **options)

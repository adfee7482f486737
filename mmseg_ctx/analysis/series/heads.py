"""The decode heads side by side, and CTNet's spatial context beside a non-local block."""

from functools import partial

import torch
from mmcv.cnn.bricks import NonLocal2d

from mmseg_ctx.analysis.benchmark import Comparison
from mmseg_ctx.analysis.models import CLASSES, COMPARED, HEAD_FACTS, head_config, head_inputs
from mmseg_ctx.analysis.series.steps import STRIDE, compare_forward, head_step
from mmseg_ctx.heads.ctnet import SpatialContextModule
from mmseg_ctx.utils.models import build


def heads(sizes=(64,), channels=2048, width=512):
    """The heads of the plugin and MMSegmentation's on the same features, one comparison a size."""
    configs = {name: head_config(name, channels, width) for name in COMPARED}
    against = ('FCNHead', 'DMHead', 'APCHead')
    for size in sizes:
        shape, image = f'[1, {channels}, {size}, {size}]', STRIDE * size
        forward, training = {}, {}
        for name, config in configs.items():
            inputs = partial(head_inputs, config, image=image, channels=channels)
            forward[name] = partial(build, config), inputs()
            # Two images: a batch norm on a globally pooled map needs them.
            training[name] = partial(head_step, config, inputs(batch=2))
        yield compare_forward(f'Heads: forward, {shape}', forward, against, facts=HEAD_FACTS)
        title = f'Heads: losses and gradients, two times {shape}, labels {image}×{image}'
        yield Comparison(title, training, against, facts=HEAD_FACTS)


def ctnet_linear(sizes=(64, 128, 256), channels=512):
    """CTNet's spatial context, linear in pixels, beside a non-local block, quadratic in them."""
    scores = torch.empty(1, channels, CLASSES, device='meta')
    for size in sizes:
        features = torch.empty(1, channels, size, size, device='meta')
        kinds = [(SpatialContextModule, features, scores)]
        if size <= 128:  # at 256 the attention, a float for each pair of pixels, has 16 GiB
            kinds.append((NonLocal2d, features))
        modules = {
            kind.__name__: (partial(_build, kind, channels), inputs) for kind, *inputs in kinds
        }
        title = f'Spatial context: forward, {[*features.shape]}, {CLASSES} classes'
        yield compare_forward(title, modules, ('NonLocal2d',))


def _build(kind, channels, device):
    return kind(channels, norm_cfg=dict(type='BN')).to(device)

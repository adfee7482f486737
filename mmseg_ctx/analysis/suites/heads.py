"""The decode heads side by side, and CTNet's spatial context beside a non-local block."""

from functools import partial

import torch
from mmcv.cnn.bricks import NonLocal2d

from mmseg_ctx.analysis.benchmark import Case, Comparison
from mmseg_ctx.analysis.models import CLASSES, COMPARED, HEAD_NOTES, head_config, head_inputs
from mmseg_ctx.analysis.suites.steps import STRIDE, forward_case, labelled_samples, training_step
from mmseg_ctx.heads.ctnet import SpatialContextModule
from mmseg_ctx.utils.models import build


def heads(setting, channels=2048, width=512):
    """The heads of the plugin and MMSegmentation's on the same features, one comparison a size."""
    configs = [head_config(name, channels, width) for name in COMPARED]
    for size in setting.sizes or (64,):
        shape = f'[1, {channels}, {size}, {size}]'
        image = STRIDE * size
        inputs = partial(head_inputs, image=image, channels=channels)
        for title, case in (
            (f'forward, {shape}', _forward_case),
            (f'losses and gradients, two times {shape}, labels {image}×{image}', _training_case),
        ):
            cases = [case(config, partial(inputs, config), setting) for config in configs]
            yield Comparison(f'Heads: {title}', cases, ('FCNHead', 'DMHead', 'APCHead'))


def _forward_case(config, inputs, setting):
    name, make = config['type'], partial(build, config)
    note = HEAD_NOTES.get(name, '')
    return forward_case(name, make, lambda device: inputs(device=device), setting, note=note)


def _training_case(config, inputs, setting):
    def prepare():
        # Two images: a batch norm on a globally pooled map needs them.
        features, *previous = inputs(batch=2, device=setting.device)
        head = build(config, setting.device)
        size = STRIDE * features[-1].size(-1)
        samples = labelled_samples(2, size, CLASSES, device=setting.device)

        def losses(*maps):
            return head.loss(list(maps[:4]), *maps[4:], samples, train_cfg=None)

        return training_step(losses, head, *features, *previous, setting=setting)

    return Case(config['type'], prepare, note=HEAD_NOTES.get(config['type'], ''))


def ctnet_linear(setting, channels=512):
    """CTNet's spatial context, linear in pixels, beside a non-local block, quadratic in them."""
    for size in setting.sizes or (64, 128, 256):
        shapes = [(1, channels, size, size), (1, channels, CLASSES)]
        # The attention has a float for each pair of pixels, and its softmax lies beside it.
        needed = 2 * 4 * size**4
        cases = (
            _spatial_case(SpatialContextModule, shapes, setting),
            _spatial_case(NonLocal2d, shapes[:1], setting, needed_bytes=needed),
        )
        title = f'Spatial context: forward, [1, {channels}, {size}, {size}], {CLASSES} classes'
        yield Comparison(title, cases, ('NonLocal2d',))


def _spatial_case(kind, shapes, setting, **options):
    def make(device):
        return kind(shapes[0][1], norm_cfg=dict(type='BN')).to(device)

    def inputs(device):
        return [torch.rand(shape, device=device) for shape in shapes]

    return forward_case(kind.__name__, make, inputs, setting, **options)

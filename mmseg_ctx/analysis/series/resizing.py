"""Losses and labels without full-size logits beside MMSegmentation's.

The network is a classifier of three features, which costs next to nothing.
"""

from functools import partial
from itertools import product

import torch
from mmseg.structures import SegDataSample

from mmseg_ctx.analysis.benchmark import Comparison, mib
from mmseg_ctx.analysis.models import head_config
from mmseg_ctx.analysis.series.steps import OURS, STOCK, STRIDE, segmentor, segmentor_step

CHANNELS = 3
SAMPLERS = {
    'softmax cross-entropy': None,
    'of hard pixels (OHEM, ACNet)': dict(type='OHEMPixelSampler', thresh=0.7, min_kept=100000),
}


def losses(sizes=(64,)):
    """Losses of a decode head, and their gradients."""
    for size, classes, (name, sampler) in product(sizes, (19, 150), SAMPLERS.items()):
        logits = torch.empty(2, classes, size, size, device='meta')
        head, features = _head(classes, sampler=sampler), logits[:, :CHANNELS]
        cases = {kind: partial(segmentor_step, kind, head, features) for kind in (STOCK, OURS)}
        title = f'Losses: {name}, {[*logits.shape]}, labels {STRIDE * size}²'
        facts = (f'Small logits have {mib(logits.nbytes)} MiB.',)
        yield Comparison(title, cases, (STOCK,), facts)


def _head(classes, **options):
    alone = dict(num_convs=0, concat_input=False, in_index=0, dropout_ratio=0)
    return head_config('FCNHead', CHANNELS, CHANNELS, classes, **alone, **options)


def labels(sizes=(512, 2560)):
    """Labels of one whole image, at the size of the network's input and at another one."""
    for size, classes in product(sizes, (19, 150)):
        for original in (size, size * 9 // 10):
            title = f'{classes} classes, {size}×{size}, labels {original}×{original}'
            yield _labels(title, classes, size, original)


def labels_slide(sizes=(1280,)):
    """Labels of one image from 7×7 windows that overlap by a third."""
    for size, classes in product(sizes, (19, 150)):
        crop = size // 5 // STRIDE * STRIDE
        windows = dict(mode='slide', crop_size=(crop, crop), stride=(-(-(size - crop) // 6),) * 2)
        title = f'{classes} classes, {size}×{size}, 7×7 windows of {crop}×{crop}'
        yield _labels(title, classes, size, size, windows)


def _labels(title, classes, size, original, test_cfg=None):
    """Return the comparison of steps from features to labels of the original size."""
    step = partial(_labels_step, classes, size, original, test_cfg)
    logits = 4 * classes * (size // STRIDE) ** 2
    facts = (
        f'The small logits of the whole image have {mib(logits)} MiB, and the label map '
        f'{mib(8 * original**2)} MiB.',
    )
    cases = {kind: partial(step, kind) for kind in (STOCK, OURS)}
    return Comparison(f'Labels: {title}', cases, (STOCK,), facts)


def _labels_step(classes, size, original, test_cfg, kind, setting):
    dtype = getattr(torch, setting.dtype)
    model = segmentor(kind, _head(classes), setting, test_cfg).eval().to(dtype)
    model.extract_feat = lambda images: [
        setting.place(torch.rand_like(images[..., ::STRIDE, ::STRIDE], dtype=dtype))
    ]
    # The image takes no memory.
    image = torch.zeros(1, device=setting.device).expand(1, 3, size, size)
    shapes = dict(img_shape=(size, size), pad_shape=(size, size), ori_shape=(original, original))
    sample = SegDataSample(metainfo=shapes)
    return torch.no_grad()(lambda: model.predict(image, [sample]))

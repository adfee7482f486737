"""Losses and labels without full-size logits beside MMSegmentation's.

The network is a classifier of three features, which costs next to nothing.
"""

import math
from functools import partial
from itertools import product

import torch
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample

from mmseg_ctx.analysis.benchmark import Comparison, mib
from mmseg_ctx.analysis.models import head_config
from mmseg_ctx.analysis.series.steps import (
    OURS,
    STOCK,
    STRIDE,
    cross_entropy_of,
    labelled_samples,
    segmentor,
    segmentor_step,
    training_step,
)
from mmseg_ctx.utils.models import build

COMPILED = 'compiled'
CHANNELS = 3
SAMPLERS = {
    'softmax cross-entropy': None,
    'of hard pixels (OHEM, ACNet)': dict(type='OHEMPixelSampler', thresh=0.7, min_kept=100000),
}
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # MMSegmentation's own, each also flipped
FLIPS = (dict(), dict(flip=True, flip_direction='horizontal'))


def losses(sizes=(64,)):
    """Losses of a decode head, and their gradients."""
    for size, classes, (name, sampler) in product(sizes, (19, 150), SAMPLERS.items()):
        logits = torch.empty(2, classes, size, size, device='meta')
        head, features = _head(classes, sampler=sampler), logits[:, :CHANNELS]
        cases = {kind: partial(segmentor_step, kind, head, features) for kind in (STOCK, OURS)}
        if not sampler:
            cases[COMPILED] = partial(_compiled_losses_step, logits)
        title = f'Losses: {name}, {[*logits.shape]}, labels {STRIDE * size}²'
        facts = (
            f'Small logits have {mib(logits.nbytes)} MiB. The compiled losses begin with them, and '
            'have no acc_seg.',
        )
        yield Comparison(title, cases, (STOCK,), facts)


def _compiled_losses_step(logits, setting):
    samples = labelled_samples(logits, logits.size(1), setting.device)
    losses = torch.compile(cross_entropy_of(samples))
    return training_step(losses, torch.nn.Identity(), logits, setting=setting)


def _head(classes, **options):
    alone = dict(num_convs=0, concat_input=False, in_index=0, dropout_ratio=0)
    return head_config('FCNHead', CHANNELS, CHANNELS, classes, **alone, **options)


def labels(sizes=(512, 2560)):
    """Labels of one whole image, at the size of the network's input and at another one."""
    for size, classes in product(sizes, (19, 150)):
        for original in (size, size * 9 // 10):
            title = f'{classes} classes, {size}×{size}, labels {original}×{original}'
            yield _labels(title, classes, (size, size), (original, original), compiled=True)


def labels_slide(sizes=(1280,)):
    """Labels of one image from 7×7 windows that overlap by a third."""
    for size, classes in product(sizes, (19, 150)):
        crop = size // 5 // STRIDE * STRIDE
        windows = dict(mode='slide', crop_size=(crop, crop), stride=(-(-(size - crop) // 6),) * 2)
        title = f'{classes} classes, {size}×{size}, 7×7 windows of {crop}×{crop}'
        yield _labels(title, classes, (size, size), test_cfg=windows)


def labels_augmented(sizes=(1024,)):
    """Labels of one image of twice the width by 1, 4 and 12 passes of test-time augmentation."""
    for height in sizes:
        for scales, flips in ((SCALES[-1:], FLIPS[:1]), (SCALES[-2:], FLIPS), (SCALES, FLIPS)):
            passes = list(product(scales, flips))
            title = f'19 classes, {height}×{2 * height}, passes: {len(passes)}'
            yield _labels(title, 19, (height, 2 * height), passes=passes)


def _labels(title, classes, size, original=None, compiled=False, **options):
    """Return the comparison of steps from features to labels of the original size."""
    original = original or size
    full = 4 * classes * math.prod(size)
    step = partial(_labels_step, classes, size, original, **options)
    cases = {STOCK: partial(step, STOCK), OURS: partial(step, OURS)}
    if compiled:
        cases[COMPILED] = partial(_compiled_labels_step, classes, size, original)
    facts = (
        f'The small logits of the whole image have {mib(full // STRIDE**2)} MiB, and the label map '
        f'{mib(8 * math.prod(original))} MiB.',
    )
    return Comparison(f'Labels: {title}', cases, (STOCK,), facts)


def _labels_step(classes, size, original, kind, setting, passes=None, test_cfg=None):
    model = _network(kind, classes, setting, test_cfg)
    if passes:
        model.test_step = lambda data: model.predict(**data)  # without preprocessing
        augmenting = 'SegTTAModel' if kind == STOCK else 'MemoryEfficientSegTTAModel'
        augmented = build(dict(type=augmenting, module=model), setting.device)
    sizes = [(tuple(int(scale * side) for side in size), flip) for scale, flip in passes or ()]

    @torch.no_grad()
    def step():
        if not passes:
            return model.predict(**_image(setting, size, original))
        images = [_image(setting, scaled, original, **flip) for scaled, flip in sizes]
        return augmented.test_step({key: [image[key] for image in images] for key in images[0]})

    return step


def _compiled_labels_step(classes, size, original, setting):
    """Return the step of MMSegmentation's operations in one compiled function."""
    model = _network(STOCK, classes, setting)
    image = _image(setting, size, original)['inputs']

    @torch.compile
    def label(logits):
        for target in dict.fromkeys((size, original)):  # once where they are the same
            logits = resize(logits, target, mode='bilinear', align_corners=False, warning=False)
        return logits.argmax(dim=1)

    @torch.no_grad()
    def step():
        return label(model.decode_head(model.extract_feat(image)))

    return step


def _network(kind, classes, setting, test_cfg=None):
    dtype = getattr(torch, setting.dtype)
    model = segmentor(kind, _head(classes), setting, test_cfg).eval().to(dtype)
    model.extract_feat = lambda images: [
        setting.place(torch.rand_like(images[..., ::STRIDE, ::STRIDE], dtype=dtype))
    ]
    return model


def _image(setting, size, original, **flip):
    """Return an image that takes no memory, and its data sample."""
    image = torch.zeros(1, device=setting.device).expand(1, 3, *size)
    metainfo = dict(ori_shape=original, img_shape=size, pad_shape=size, img_path='', **flip)
    return dict(inputs=image, data_samples=[SegDataSample(metainfo=metainfo)])

"""Memory-efficient losses and segmentors beside MMSegmentation's, from the network's logits on."""

import math
from functools import cache, partial
from itertools import product

import torch
from mmengine.config import ConfigDict
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample

from mmseg_ctx.analysis.benchmark import Comparison, mib
from mmseg_ctx.analysis.models import head_config
from mmseg_ctx.analysis.suites.steps import (
    STRIDE,
    cross_entropy_of,
    labelled_samples,
    training_step,
)
from mmseg_ctx.losses import use_memory_efficient_losses
from mmseg_ctx.segmentors import MemoryEfficientEncoderDecoder, MemoryEfficientSegTTAModel
from mmseg_ctx.utils.models import build

STOCK, OURS, COMPILED = 'MMSegmentation', 'memory-efficient', 'compiled'
SAMPLERS = {
    'softmax cross-entropy': None,
    'of hard pixels (OHEM, ACNet)': dict(type='OHEMPixelSampler', thresh=0.7, min_kept=100000),
}
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # MMSegmentation's own, each also flipped
FLIPS = (dict(), dict(flip=True, flip_direction='horizontal'))


def losses(sizes=(64,)):
    """Losses of a decode head, and the gradients of its small logits."""
    for size, classes, (name, sampler) in product(sizes, (19, 150), SAMPLERS.items()):
        logits = torch.empty(2, classes, size, size, device='meta')
        step = partial(_losses_step, logits, sampler)
        names = (STOCK, OURS) if sampler else (STOCK, OURS, COMPILED)
        cases = {case: partial(step, case) for case in names}
        title = f'Losses: {name}, {[*logits.shape]}, labels {STRIDE * size}²'
        facts = (f'Small logits have {mib(logits.nbytes)} MiB.',)
        yield Comparison(title, cases, (STOCK,), facts, {COMPILED: 'compiled has no acc_seg.'})


def _losses_step(logits, sampler, case, setting):
    head = build(_head(logits.size(1), sampler=sampler), setting.device)
    samples = labelled_samples(logits, head.num_classes, setting.device)
    if case == OURS:
        use_memory_efficient_losses(head)
    losses = partial(head.loss_by_feat, batch_data_samples=samples)
    if case == COMPILED:
        losses = torch.compile(cross_entropy_of(samples))
    return training_step(losses, head, logits, setting=setting)


def _head(classes, **options):
    return head_config('FCNHead', 3, 3, classes, num_convs=0, concat_input=False, **options)


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
    """Return the comparison of steps from logits to labels of the original size."""
    original = original or size
    full = 4 * classes * math.prod(size)
    step = partial(_labels_step, classes, size, original, **options)
    cases = {STOCK: partial(step, STOCK), OURS: partial(step, OURS)}
    if compiled:
        cases[COMPILED] = partial(_compiled_step, classes, size, original)
    facts = (
        f'What follows the network: small logits, which have {mib(full // STRIDE**2)} MiB for the '
        f'whole image, are copied in its place. The label map has {mib(8 * math.prod(original))} '
        'MiB.',
    )
    needed = {STOCK: 2 * full, COMPILED: 2 * full}
    return Comparison(f'Labels: {title}', cases, (STOCK,), facts, needed_bytes=needed)


def _labels_step(classes, size, original, case, setting, passes=None, test_cfg=None):
    model = _segmentor(case, classes, setting, test_cfg)
    if passes:
        model.test_step = lambda data: model.predict(**data)  # without preprocessing
        kind = 'SegTTAModel' if case == STOCK else MemoryEfficientSegTTAModel
        augmented = build(dict(type=kind, module=model), setting.device)

    @torch.no_grad()
    def step():
        if not passes:
            return model.predict(**_image(setting, size, original))
        sizes = [(tuple(int(scale * side) for side in size), flip) for scale, flip in passes]
        images = [_image(setting, scaled, original, **flip) for scaled, flip in sizes]
        return augmented.test_step({key: [image[key] for image in images] for key in images[0]})

    return step


def _compiled_step(classes, size, original, setting):
    """Return the step of MMSegmentation's operations in one compiled function."""
    model = _segmentor(STOCK, classes, setting)
    image = _image(setting, size, original)['inputs']

    @torch.compile
    def label(logits):
        for target in dict.fromkeys((size, original)):  # once where they are the same
            logits = resize(logits, target, mode='bilinear', align_corners=False, warning=False)
        return logits.argmax(dim=1)

    @torch.no_grad()
    def step():
        return label(model.decode_head([image]))

    return step


def _segmentor(case, classes, setting, test_cfg=None):
    """Return a segmentor whose network is a copy of logits at 1/8 of the side."""
    model = build(
        dict(
            type='EncoderDecoder' if case == STOCK else MemoryEfficientEncoderDecoder,
            data_preprocessor=None,
            backbone=dict(type='ResNet', depth=18, base_channels=1, stem_channels=1),
            decode_head=_head(classes, in_index=0),
            test_cfg=ConfigDict(test_cfg or dict(mode='whole')),
        ),
        setting.device,
    ).eval()

    @cache
    def logits(size):
        values = setting.place(torch.empty(1, classes, *size, device='meta'))
        return values.to(getattr(torch, setting.dtype))

    def copy_logits(features):
        return logits(tuple(-(-side // STRIDE) for side in features[0].shape[2:])).clone()

    model.extract_feat = lambda inputs: [inputs]
    model.decode_head.forward = copy_logits
    return model


def _image(setting, size, original, **flip):
    """Return an image that takes no memory, and its data sample."""
    image = torch.zeros(1, device=setting.device).expand(1, 3, *size)
    metainfo = dict(ori_shape=original, img_shape=size, pad_shape=size, img_path='', **flip)
    return dict(inputs=image, data_samples=[SegDataSample(metainfo=metainfo)])

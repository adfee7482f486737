"""From the network's logits to labels: memory-efficient segmentors beside MMSegmentation's."""

import math
from functools import cache, partial
from itertools import product

import torch
from mmengine.config import ConfigDict
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample

from mmseg_ctx.analysis.benchmark import Case, Comparison, mib
from mmseg_ctx.analysis.models import head_config
from mmseg_ctx.analysis.suites.steps import STRIDE
from mmseg_ctx.segmentors import MemoryEfficientEncoderDecoder, MemoryEfficientSegTTAModel
from mmseg_ctx.utils.models import build

STOCK, OURS, COMPILED = 'MMSegmentation', 'memory-efficient', 'compiled'
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # MMSegmentation's own, each also flipped
FLIPS = (dict(), dict(flip=True, flip_direction='horizontal'))


def labels(setting, classes=(19, 150)):
    """Labels of one whole image, at the size of the network's input and at another one."""
    for size in setting.sizes or (512, 2560):
        for number in classes:
            for original in (size, size * 9 // 10):
                title = f'{number} classes, {size}×{size}, labels {original}×{original}'
                sizes = dict(size=(size, size), original=(original, original))
                yield _comparison(title, _predicting, setting, number, **sizes, compiled=True)


def labels_slide(setting):
    """Labels of one image from 7×7 windows that overlap by a third."""
    for size in setting.sizes or (1280,):
        crop = size // 5 // STRIDE * STRIDE
        windows = dict(mode='slide', crop_size=(crop, crop), stride=(-(-(size - crop) // 6),) * 2)
        for number in (19, 150):
            title = f'{number} classes, {size}×{size}, 7×7 windows of {crop}×{crop}'
            yield _comparison(title, _predicting, setting, number, (size, size), test_cfg=windows)


def labels_augmented(setting):
    """Labels of one image of twice the width by 1, 4 and 12 passes of test-time augmentation."""
    for height in setting.sizes or (1024,):
        for scales, flips in ((SCALES[-1:], FLIPS[:1]), (SCALES[-2:], FLIPS), (SCALES, FLIPS)):
            passes = list(product(scales, flips))
            title = f'19 classes, {height}×{2 * height}, passes: {len(passes)}'
            yield _comparison(title, _augmented, setting, 19, (height, 2 * height), passes=passes)


def _comparison(title, step, setting, classes, size, original=None, compiled=False, **options):
    """Return the comparison of a step; of MMSegmentation's the memory is known before."""
    original = original or size
    full = 4 * classes * math.prod(size)
    steps = {STOCK: step, OURS: step, **({COMPILED: _compiled} if compiled else {})}
    cases = [
        Case(
            name,
            partial(step, name, setting, classes, size, original, **options),
            needed_bytes=0 if name == OURS else 2 * full,
        )
        for name, step in steps.items()
    ]
    facts = (
        f'What follows the network: small logits, which have {mib(full // STRIDE**2)} MiB for the '
        f'whole image, are copied in its place. The label map has {mib(8 * math.prod(original))} '
        'MiB.',
    )
    return Comparison(f'Labels: {title}', cases, (STOCK,), facts)


def _segmentor(name, setting, classes, test_cfg):
    """Return a segmentor whose network is a copy of logits at 1/8 of the side."""
    head = head_config('FCNHead', 3, 3, classes, num_convs=0, concat_input=False, in_index=0)
    model = build(
        dict(
            type='EncoderDecoder' if name == STOCK else MemoryEfficientEncoderDecoder,
            data_preprocessor=None,
            backbone=dict(type='ResNet', depth=18, base_channels=1, stem_channels=1),
            decode_head=head,
            test_cfg=ConfigDict(test_cfg or dict(mode='whole')),
        ),
        setting.device,
    ).eval()

    @cache
    def logits(size):
        values = setting.place(torch.randn(1, classes, *size))
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


def _predicting(name, setting, classes, size, original, test_cfg=None):
    model = _segmentor(name, setting, classes, test_cfg)

    @torch.no_grad()
    def step():
        model.predict(**_image(setting, size, original))

    return step


def _augmented(name, setting, classes, size, original, passes):
    module = _segmentor(name, setting, classes, None)
    kind = 'SegTTAModel' if name == STOCK else MemoryEfficientSegTTAModel
    module.test_step = lambda data: module.predict(**data)  # without preprocessing
    model = build(dict(type=kind, module=module), setting.device)

    @torch.no_grad()
    def step():
        images = [
            _image(setting, tuple(int(scale * side) for side in size), original, **flip)
            for scale, flip in passes
        ]
        model.test_step({key: [image[key] for image in images] for key in images[0]})

    return step


def _compiled(name, setting, classes, size, original):
    """Return the step of MMSegmentation's operations in one compiled function."""
    model = _segmentor(STOCK, setting, classes, None)
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

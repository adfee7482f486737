"""What the benchmarks compare: each series is a function from sizes to its comparisons.

A step is a forward pass, or losses and their gradients. Inputs are given on the meta device;
``Setting.place`` makes random ones of their shapes.
"""

from functools import partial
from itertools import product

import torch
from mmcv.cnn.bricks import NonLocal2d
from mmengine.config import ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample

from mmseg_ctx.analysis.benchmark import Comparison
from mmseg_ctx.analysis.compared import (
    CLASSES,
    COMPARED,
    HEAD_FACTS,
    feature_maps,
    head_config,
    labelled_samples,
    mmseg_model,
    with_cac,
)
from mmseg_ctx.heads.ctnet import SpatialContextModule
from mmseg_ctx.utils.models import build

STRIDE = 8  # pixels between neighbours in the last feature map of most series
STOCK, OURS, COMPILED = 'MMSegmentation', 'memory-efficient', 'MMSegmentation, compiled'
SEGMENTORS = {
    STOCK: 'EncoderDecoder',
    OURS: 'MemoryEfficientEncoderDecoder',
    COMPILED: 'EncoderDecoder',
}
# A head that is a classifier alone, and the channels of its features.
CHANNELS = 3
ALONE = dict(num_convs=0, concat_input=False, in_index=0, dropout_ratio=0)
SAMPLERS = {
    'softmax cross-entropy': None,
    'of hard pixels (OHEM, ACNet)': dict(type='OHEMPixelSampler', thresh=0.7, min_kept=100000),
}


def forward_step(make, inputs, setting):
    """Return the step of a forward pass without gradients of what ``make`` builds on a device."""
    module, inputs = setting.place(make(setting.device)).eval(), setting.place(inputs)

    @torch.no_grad()
    def step():
        with setting.autocast():
            return module(*inputs)

    return step


def segmentor(kind, head, **test_cfg):
    """Return the config of a segmentor, one of ``SEGMENTORS``, to which features are given."""
    return dict(
        type=SEGMENTORS[kind],
        backbone=dict(type=torch.nn.Identity),
        decode_head=head,
        test_cfg=ConfigDict(dict(mode='whole') | test_cfg),
    )


def training_step(config, inputs, size, setting, compiled=False):
    """Return the step of a segmentor's losses, and of the gradients of weights and inputs.

    The gradients are gone when the step ends.

    Args:
        config (dict): Config of the segmentor.
        inputs (Tensor | list[Tensor]): Images, or features for a :func:`segmentor`.
        size (tuple[int, int]): Height and width of the labels.
        setting (Setting): Where and how the step runs.
        compiled (bool): Whether ``torch.compile`` compiles the head's losses. Default: False.
    """
    # Batch norms of one process.
    model = revert_sync_batchnorm(build({**config, 'data_preprocessor': None}, setting.device))
    model, inputs = setting.place(model).train(), setting.place(inputs)
    maps = inputs if isinstance(inputs, list) else [inputs]
    leaves = [*model.parameters(), *(each.requires_grad_() for each in maps)]
    if compiled:
        model.decode_head.loss_by_feat = torch.compile(model.decode_head.loss_by_feat)
    samples = labelled_samples(len(maps[0]), size, model.num_classes, setting.device)

    def step():
        with setting.autocast():
            named = model.loss(inputs, samples)
        model.parse_losses(named)[0].backward()
        for leaf in leaves:
            leaf.grad = None

    return step


def heads(sizes=(64,), channels=2048, width=512):
    """The heads of the plugin and MMSegmentation's on the same features, one comparison a size."""
    configs = {name: head_config(name, channels, width) for name in COMPARED}
    against = ('FCNHead', 'DMHead', 'APCHead')
    for size in sizes:
        shape, image = f'[1, {channels}, {size}, {size}]', STRIDE * size
        maps = feature_maps(1, image, channels)
        forward = {
            name: partial(forward_step, partial(build, config), [maps])
            for name, config in configs.items()
        }
        yield Comparison(f'Heads: forward, {shape}', forward, against, facts=HEAD_FACTS)
        # Two images: a batch norm on a globally pooled map needs them.
        maps = feature_maps(2, image, channels)
        training = {
            name: partial(training_step, segmentor(STOCK, config), maps, (image, image))
            for name, config in configs.items()
        }
        title = f'Heads: losses and gradients, two times {shape}, labels {image}×{image}'
        yield Comparison(title, training, against, facts=HEAD_FACTS)


def ctnet_linear(sizes=(64, 128, 256), channels=512):
    """CTNet's spatial context, linear in pixels, beside a non-local block, quadratic in them."""
    norm = dict(norm_cfg=dict(type='BN'))
    ours = partial(build, dict(type=SpatialContextModule, channels=channels, **norm))
    theirs = partial(build, dict(type=NonLocal2d, in_channels=channels, **norm))
    scores = torch.empty(1, channels, CLASSES, device='meta')
    for size in sizes:
        features = torch.empty(1, channels, size, size, device='meta')
        cases = dict(SpatialContextModule=partial(forward_step, ours, [features, scores]))
        if size <= 128:  # at 256 the attention, a float for each pair of pixels, has 16 GiB
            cases['NonLocal2d'] = partial(forward_step, theirs, [features])
        title = f'Spatial context: forward, {[*features.shape]}, {CLASSES} classes'
        yield Comparison(title, cases, ['NonLocal2d'])


def cac_loss(sizes=(64,), channels=512, classes=150):
    """The losses of CAC beside a plain head's, two images."""
    plain = head_config('FCNHead', channels, channels, classes, **ALONE)
    models = {'plain head': segmentor(STOCK, plain), 'with CAC': with_cac(segmentor(OURS, plain))}
    for size in sizes:
        features = torch.empty(2, channels, size, size, device='meta')
        side = STRIDE * size
        cases = {
            name: partial(training_step, model, [features], (side, side))
            for name, model in models.items()
        }
        title = f'Losses and gradients: {[*features.shape]}, {classes} classes, labels {side}²'
        fact = "The plain head is in MMSegmentation's segmentor, CAC in the memory-efficient one."
        yield Comparison(title, cases, ['plain head'], [fact])


def cac_sizes(sizes=(512, 1280, 2560), name='UPerNet, Swin-T'):
    """Inference with and without the context-aware classifier at the sizes of its Table 6."""
    baseline = mmseg_model('swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k')
    models = {name: baseline, f'{name}, with CAC': with_cac(baseline)}
    for size in sizes:
        image = torch.empty(1, 3, size, size, device='meta')
        cases = {
            key: partial(forward_step, partial(_build_whole, model, size), [image])
            for key, model in models.items()
        }
        yield Comparison(f'Inference of one {size}×{size} image', cases, [name])


def _build_whole(config, size, device):
    """Return a model whose forward pass goes from an image to logits of its size."""
    model = build(config, device)
    model.forward = partial(model.encode_decode, batch_img_metas=[dict(img_shape=(size, size))])
    return model


def losses(sizes=(64,)):
    """Losses of a decode head, and their gradients."""
    for size, classes, name in product(sizes, (19, 150), SAMPLERS):
        yield compare_losses(2, classes, (size, size), STRIDE, name)


def compare_losses(batch, classes, size, stride, name='softmax cross-entropy', kinds=(STOCK, OURS)):
    """Return the comparison of the losses of small logits, for labels ``stride`` as large."""
    features = torch.empty(batch, CHANNELS, *size, device='meta')
    head = head_config('FCNHead', CHANNELS, CHANNELS, classes, **ALONE, sampler=SAMPLERS[name])
    height, width = (stride * side for side in size)
    cases = {
        kind: partial(
            training_step,
            segmentor(kind, head),
            [features],
            (height, width),
            compiled=kind == COMPILED,
        )
        for kind in kinds
    }
    title = f'Losses: {name}, {[batch, classes, *size]}, labels {height}×{width}'
    return Comparison(title, cases, [STOCK])


def labels(sizes=(512, 2560)):
    """Labels of one whole image, at the size of the network's input and at another one."""
    for size, classes, tenths in product(sizes, (19, 150), (10, 9)):
        original = size * tenths // 10
        title = f'{classes} classes, {size}×{size}, labels {original}×{original}'
        yield compare_labels(title, 1, classes, (size, size), (original, original))


def labels_slide(sizes=(1280,)):
    """Labels of one image from 7×7 windows that overlap by a third."""
    for size, classes in product(sizes, (19, 150)):
        crop = size // 5 // STRIDE * STRIDE
        windows = dict(mode='slide', crop_size=(crop, crop), stride=(-(-(size - crop) // 6),) * 2)
        title = f'{classes} classes, {size}×{size}, 7×7 windows of {crop}×{crop}'
        yield compare_labels(title, 1, classes, (size, size), (size, size), **windows)


def compare_labels(title, *sizes, kinds=(STOCK, OURS), **options):
    """Return the comparison of steps from features to labels; arguments as in _labels_step."""
    cases = {kind: partial(_labels_step, kind, *sizes, **options) for kind in kinds}
    return Comparison(f'Labels: {title}', cases, [STOCK])


def _labels_step(kind, batch, classes, size, original, setting, down=STRIDE, **test_cfg):
    """Return the step from features, ``down`` times as small as images, to original-size labels."""
    dtype = getattr(torch, setting.dtype)
    if kind == COMPILED:  # as few operations as there can be, which the compiler may fuse
        small = (side // down for side in size)
        logits = setting.place(torch.empty(batch, classes, *small, device='meta')).to(dtype)
        compiled = torch.compile(lambda maps: resize(maps, original, mode='bilinear').argmax(1))
        return torch.no_grad()(lambda: compiled(logits))
    head = head_config('FCNHead', CHANNELS, CHANNELS, classes, **ALONE)
    model = build(segmentor(kind, head, **test_cfg), setting.device).eval().to(dtype)
    model.extract_feat = lambda images: [
        setting.place(torch.rand_like(images[..., ::down, ::down], dtype=dtype))
    ]
    # The images take no memory.
    images = torch.zeros(1, device=setting.device).expand(batch, CHANNELS, *size)
    shapes = dict(img_shape=size, pad_shape=size, ori_shape=original)
    samples = [SegDataSample(metainfo=shapes) for _ in range(batch)]
    return torch.no_grad()(lambda: model.predict(images, samples))


_ALL = (heads, ctnet_linear, cac_loss, cac_sizes, losses, labels, labels_slide)
SERIES = {series.__name__.replace('_', '-'): series for series in _ALL}

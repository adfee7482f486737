"""What the benchmarks compare: each series is a function from sizes to its comparisons.

A step is a forward pass, or losses and their gradients. Inputs are given on the meta device;
``Setting.place`` makes random ones of their shapes.
"""

from functools import partial
from itertools import product

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import NonLocal2d
from mmengine.config import ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.structures import PixelData
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample

from mmseg_ctx.analysis.benchmark import Comparison, mib
from mmseg_ctx.analysis.complexity import count
from mmseg_ctx.analysis.models import (
    CLASSES,
    COMPARED,
    HEAD_FACTS,
    head_config,
    head_inputs,
    mmseg_model,
    with_cac,
    wrapped,
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
CHANNELS = 3  # of the features of a head that is a classifier alone
SAMPLERS = {
    'softmax cross-entropy': None,
    'of hard pixels (OHEM, ACNet)': dict(type='OHEMPixelSampler', thresh=0.7, min_kept=100000),
}


def compare_forward(title, modules, against, **options):
    """Return the comparison of forward passes without gradients, with their complexity.

    ``modules`` has, by the name of the case, what builds the module on a device, and its inputs.
    """
    cases = {name: partial(_forward_step, *each) for name, each in modules.items()}
    costs = {name: count(make('meta'), *inputs) for name, (make, inputs) in modules.items()}
    return Comparison(title, cases, against, complexity=costs, **options)


def _forward_step(make, inputs, setting):
    module, inputs = setting.place(make(setting.device)).eval(), setting.place(inputs)

    @torch.no_grad()
    def step():
        with setting.autocast():
            return module(*inputs)

    return step


def training_step(losses_of, module, *inputs, setting):
    """Return the step of a module's losses and of the gradients of its weights and inputs.

    ``losses_of(*inputs)`` returns the dictionary of a model's losses. The gradients are gone when
    the step ends.
    """
    setting.place(module).train()
    inputs = [each.requires_grad_() for each in setting.place(inputs)]

    def step():
        with setting.autocast():
            entries = losses_of(*inputs)
        sum(value for name, value in entries.items() if 'loss' in name).backward()
        for leaf in (*module.parameters(), *inputs):
            leaf.grad = None

    return step


def head_step(config, inputs, setting):
    """Return the training step of a head."""
    features, *previous = inputs
    head = build(config, setting.device)
    samples = labelled_samples(features[-1], head.num_classes, setting.device)

    def losses_of(*maps):
        features, previous = list(maps[:4]), maps[4:]
        return head.loss(features, *previous, samples, train_cfg=None)

    return training_step(losses_of, head, *features, *previous, setting=setting)


def model_step(config, images, setting):
    """Return the training step of a whole model, whose batch norms are of one process."""
    model = revert_sync_batchnorm(build({**config, 'data_preprocessor': None}, setting.device))
    maps = images[..., ::STRIDE, ::STRIDE]
    samples = labelled_samples(maps, model.decode_head.num_classes, setting.device)
    return training_step(lambda images: model.loss(images, samples), model, images, setting=setting)


def segmentor(kind, head, setting, test_cfg=None):
    """Return a segmentor, one of ``SEGMENTORS``, whose head reads the images as features."""
    config = dict(
        type=SEGMENTORS[kind],
        data_preprocessor=None,
        backbone=dict(type='ResNet', depth=18, base_channels=1, stem_channels=1),
        decode_head=head,
        test_cfg=ConfigDict(test_cfg or dict(mode='whole')),
    )
    model = build(config, setting.device)
    model.extract_feat = lambda inputs: [inputs]
    return model


def segmentor_step(kind, head, features, setting, stride=STRIDE):
    """Return the training step of such a segmentor."""
    model = segmentor(kind, head, setting)
    if kind == COMPILED:
        model.decode_head.loss_by_feat = torch.compile(model.decode_head.loss_by_feat)
    samples = labelled_samples(features, model.decode_head.num_classes, setting.device, stride)
    return training_step(lambda maps: model.loss(maps, samples), model, features, setting=setting)


def labelled_samples(maps, classes, device='cpu', stride=STRIDE):
    """Return a data sample for each of ``maps`` ``[B, C, h, w]``, with labels ``stride`` as large.

    An image has labels of at most twelve classes, in blocks.
    """
    size = tuple(stride * side for side in maps.shape[2:])
    blocks = torch.arange(12.0, device=device).view(1, 1, 4, 3)
    blocks = F.interpolate(blocks, size)[0].long()  # [1, H, W]
    samples = []
    for image in range(len(maps)):
        sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size))
        sample.gt_sem_seg = PixelData(data=(blocks + 12 * image) % classes)
        samples.append(sample)
    return samples


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
            kind.__name__: (partial(_build_module, kind, channels), inputs)
            for kind, *inputs in kinds
        }
        title = f'Spatial context: forward, {[*features.shape]}, {CLASSES} classes'
        yield compare_forward(title, modules, ('NonLocal2d',))


def _build_module(kind, channels, device):
    return kind(channels, norm_cfg=dict(type='BN')).to(device)


def cac_loss(sizes=(64,), channels=512, classes=150):
    """The losses of CAC beside a plain head's and one full-size cross-entropy, two images."""
    alone = dict(num_convs=0, concat_input=False, in_index=0)
    plain = head_config('FCNHead', channels, channels, classes, **alone)
    for size in sizes:
        features = torch.empty(2, channels, size, size, device='meta')
        logits = torch.empty(2, classes, size, size, device='meta')
        cases = {
            'cross-entropy': partial(_cross_entropy_step, logits),
            'plain head': partial(segmentor_step, STOCK, plain, features),
            'with CAC': partial(segmentor_step, OURS, wrapped(plain), features),
        }
        shape = f'{[*features.shape]}, {classes} classes, labels {STRIDE * size}²'
        facts = (
            'The cross-entropy is of small logits, with bilinear upsampling. The plain head is in '
            "MMSegmentation's segmentor, with CAC in the memory-efficient one.",
            f'Small logits have {mib(logits.nbytes)} MiB, features {mib(features.nbytes)} MiB.',
        )
        against = ('cross-entropy', 'plain head')
        yield Comparison(f'Losses and gradients: {shape}', cases, against, facts)


def _cross_entropy_step(logits, setting):
    samples = labelled_samples(logits, logits.size(1), setting.device)
    label = torch.cat([sample.gt_sem_seg.data for sample in samples])  # [B, H, W]

    def losses_of(logits):
        full = resize(logits, label.shape[1:], mode='bilinear', align_corners=False, warning=False)
        return dict(loss=F.cross_entropy(full, label, ignore_index=255))

    return training_step(losses_of, torch.nn.Identity(), logits, setting=setting)


def cac_inference(sizes=(512,), name='UPerNet, ResNet-50', config='upernet/upernet_r50_4xb4-160k'):
    """Inference with and without the context-aware classifier: UPerNet, ResNet-50, 512×512."""
    baseline = mmseg_model(config)
    models = {name: baseline, f'{name}, with CAC': with_cac(baseline)}
    for size in sizes:
        image = torch.empty(1, 3, size, size, device='meta')
        built = {
            key: (partial(_build_whole, model, size), (image,)) for key, model in models.items()
        }
        yield compare_forward(f'Inference of one {size}×{size} image', built, (name,))


def _build_whole(config, size, device):
    """Return a model whose forward pass goes from an image to logits of its size."""
    model = build(config, device)
    model.forward = partial(model.encode_decode, batch_img_metas=[dict(img_shape=(size, size))])
    return model


def cac_sizes(sizes=(512, 1280, 2560)):
    """Inference with and without the context-aware classifier at the sizes of its Table 6."""
    config = 'swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k'
    return cac_inference(sizes, 'UPerNet, Swin-T', config)


def losses(sizes=(64,)):
    """Losses of a decode head, and their gradients."""
    for size, classes, name in product(sizes, (19, 150), SAMPLERS):
        yield compare_losses(2, classes, (size, size), STRIDE, name)


def compare_losses(batch, classes, size, stride, name='softmax cross-entropy', kinds=(STOCK, OURS)):
    """Return the comparison of the losses of small logits, for labels ``stride`` as large."""
    logits = torch.empty(batch, classes, *size, device='meta')
    head, features = _head(classes, sampler=SAMPLERS[name]), logits[:, :CHANNELS]
    cases = {kind: partial(segmentor_step, kind, head, features, stride=stride) for kind in kinds}
    height, width = (stride * side for side in size)
    title = f'Losses: {name}, {[*logits.shape]}, labels {height}×{width}'
    facts = (f'Small logits have {mib(logits.nbytes)} MiB.',)
    return Comparison(title, cases, (STOCK,), facts)


def _head(classes, **options):
    alone = dict(num_convs=0, concat_input=False, in_index=0, dropout_ratio=0)
    return head_config('FCNHead', CHANNELS, CHANNELS, classes, **alone, **options)


def labels(sizes=(512, 2560)):
    """Labels of one whole image, at the size of the network's input and at another one."""
    for size, classes in product(sizes, (19, 150)):
        for original in (size, size * 9 // 10):
            title = f'{classes} classes, {size}×{size}, labels {original}×{original}'
            yield compare_labels(title, 1, classes, (size, size), (original, original))


def labels_slide(sizes=(1280,)):
    """Labels of one image from 7×7 windows that overlap by a third."""
    for size, classes in product(sizes, (19, 150)):
        crop = size // 5 // STRIDE * STRIDE
        windows = dict(mode='slide', crop_size=(crop, crop), stride=(-(-(size - crop) // 6),) * 2)
        title = f'{classes} classes, {size}×{size}, 7×7 windows of {crop}×{crop}'
        yield compare_labels(title, 1, classes, (size, size), (size, size), test_cfg=windows)


def compare_labels(title, *sizes, kinds=(STOCK, OURS), **options):
    """Return the comparison of steps from features to labels; ``sizes`` as in _labels_step."""
    batch, classes, size, original = sizes
    logits = 4 * batch * classes * size[0] * size[1] // STRIDE**2
    facts = (
        f'The small logits have {mib(logits)} MiB, and the label maps '
        f'{mib(8 * batch * original[0] * original[1])} MiB.',
    )
    cases = {kind: partial(_labels_step, kind, *sizes, **options) for kind in kinds}
    return Comparison(f'Labels: {title}', cases, (STOCK,), facts)


def _labels_step(kind, batch, classes, size, original, setting, test_cfg=None, stride=STRIDE):
    """Return the step from features of images of a size to labels of their original size."""
    dtype = getattr(torch, setting.dtype)
    if kind == COMPILED:  # as few operations as there can be, which the compiler may fuse
        small = (side // stride for side in size)
        logits = setting.place(torch.empty(batch, classes, *small, device='meta')).to(dtype)
        compiled = torch.compile(lambda maps: resize(maps, original, mode='bilinear').argmax(1))
        return torch.no_grad()(lambda: compiled(logits))
    model = segmentor(kind, _head(classes), setting, test_cfg).eval().to(dtype)
    model.extract_feat = lambda images: [
        setting.place(torch.rand_like(images[..., ::stride, ::stride], dtype=dtype))
    ]
    # The images take no memory.
    images = torch.zeros(1, device=setting.device).expand(batch, CHANNELS, *size)
    shapes = dict(img_shape=size, pad_shape=size, ori_shape=original)
    samples = [SegDataSample(metainfo=shapes) for _ in range(batch)]
    return torch.no_grad()(lambda: model.predict(images, samples))


_ALL = (heads, ctnet_linear, cac_loss, cac_inference, cac_sizes, losses, labels, labels_slide)
SERIES = {series.__name__.replace('_', '-'): series for series in _ALL}

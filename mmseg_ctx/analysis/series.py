"""What the benchmark compares: each series is a function from sizes to its comparisons.

A step is a forward pass, or losses and their gradients. Inputs are given on the meta device;
``Setting.place`` makes random ones of their shapes.
"""

from functools import partial
from itertools import product

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import NonLocal2d
from mmengine.config import ConfigDict
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

STRIDE = 8  # pixels between neighbours in the last feature map of all series
STOCK, OURS = 'MMSegmentation', 'memory-efficient'
SEGMENTORS = {STOCK: 'EncoderDecoder', OURS: 'MemoryEfficientEncoderDecoder'}


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


def segmentor_step(kind, head, features, setting):
    """Return the training step of such a segmentor."""
    model = segmentor(kind, head, setting)
    samples = labelled_samples(features, model.decode_head.num_classes, setting.device)
    return training_step(lambda maps: model.loss(maps, samples), model, features, setting=setting)


def labelled_samples(maps, classes, device='cpu'):
    """Return a data sample for each of ``maps`` ``[B, C, h, w]``, with labels ``STRIDE`` as large.

    An image has labels of at most twelve classes, in blocks.
    """
    size = STRIDE * maps.size(-1)
    blocks = torch.arange(12.0, device=device).view(1, 1, 4, 3)
    blocks = F.interpolate(blocks, size)[0].long()  # [1, H, W]
    samples = []
    for image in range(len(maps)):
        sample = SegDataSample(metainfo=dict(img_shape=(size, size), ori_shape=(size, size)))
        sample.gt_sem_seg = PixelData(data=(blocks + 12 * image) % classes)
        samples.append(sample)
    return samples


def cross_entropy_of(samples):
    """Return a function from small logits to their losses, one plain cross-entropy."""
    label = torch.cat([sample.gt_sem_seg.data for sample in samples])  # [B, H, W]

    def losses_of(logits):
        full = resize(logits, label.shape[1:], mode='bilinear', align_corners=False, warning=False)
        return dict(loss=F.cross_entropy(full, label, ignore_index=255))

    return losses_of


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
    losses_of = cross_entropy_of(labelled_samples(logits, logits.size(1), setting.device))
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


_ALL = (heads, ctnet_linear, cac_loss, cac_inference, cac_sizes, losses, labels, labels_slide)
SERIES = {series.__name__.replace('_', '-'): series for series in _ALL}

"""What the benchmark compares: each suite is a function from a setting to its comparisons."""

from functools import partial

import torch
from mmcv.cnn.bricks import NonLocal2d
from mmengine.structures import PixelData
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample

from mmseg_ctx.analysis.benchmark import Case, Comparison, mib
from mmseg_ctx.analysis.complexity import count
from mmseg_ctx.analysis.complexity_tables import HEADS_FACTS, mmseg_model, with_cac, wrapped
from mmseg_ctx.analysis.heads import (
    CLASSES,
    COMPARED,
    backbone_features,
    head_config,
    previous_output,
)
from mmseg_ctx.heads.ctnet import SpatialContextModule
from mmseg_ctx.utils.models import build

_STRIDE = 8  # of the last feature map


def forward_step(module, *inputs, setting):
    """Return the step of a module's forward pass, in evaluation mode and without gradients."""
    module = setting.place(module)
    module.eval()
    inputs = [_placed(each, setting) for each in inputs]

    @torch.no_grad()
    def step():
        with setting.autocast():
            return module(*inputs)

    return step


def training_step(losses, module, *inputs, setting):
    """Return the step of a module's losses and of the gradients of its weights and inputs.

    Args:
        losses (Callable): Given the inputs, returns the dictionary of a decode head's losses.
        module (nn.Module): Whose weights they depend on.
        *inputs (Tensor | list[Tensor]): Of ``losses``.
        setting (Setting): Where and how.

    Returns:
        Callable[[], None]: The step. The gradients are gone when it ends.
    """
    setting.place(module).train()
    inputs = [_placed(each, setting, gradient=True) for each in inputs]
    leaves = [*module.parameters(), *(leaf for each in inputs for leaf in _tensors(each))]

    def step():
        with setting.autocast():
            entries = losses(*inputs)
        sum(value for name, value in entries.items() if 'loss' in name).backward()
        for leaf in leaves:
            leaf.grad = None

    return step


def _tensors(item):
    return [item] if isinstance(item, torch.Tensor) else item


def _placed(item, setting, gradient=False):
    placed = [setting.place(tensor).requires_grad_(gradient) for tensor in _tensors(item)]
    return placed[0] if isinstance(item, torch.Tensor) else placed


def labelled_samples(batch, size, classes, present=12, device='cpu'):
    """Make labels of a few classes, in blocks.

    Args:
        batch (int): B.
        size (int): H and W, in pixels.
        classes (int): N.
        present (int): How many classes an image has at most. Default: 12.
        device (str | torch.device): Where. Default: ``'cpu'``.

    Returns:
        list[SegDataSample]: With ``gt_sem_seg``.
    """
    rows = torch.arange(size, device=device) * 4 // size
    columns = torch.arange(size, device=device) * 3 // size
    blocks = (3 * rows[:, None] + columns) % present  # [H, W]
    samples = []
    for image in range(batch):
        sample = SegDataSample(metainfo=dict(img_shape=(size, size), ori_shape=(size, size)))
        label = (blocks + image * present) % classes
        sample.gt_sem_seg = PixelData(data=label[None])
        samples.append(sample)
    return samples


def heads(setting, channels=2048, width=512):
    """The heads of the plugin and MMSegmentation's on the same features, one comparison a size."""
    comparisons = []
    for size in setting.sizes or (64,):
        features = partial(backbone_features, image=_STRIDE * size, channels=channels)
        shape = f'[1, {channels}, {size}, {size}]'
        configs = {name: head_config(name, channels, width) for name in COMPARED}
        forward = tuple(
            Case(
                name,
                partial(_head_forward, config, features, setting),
                complexity=_head_complexity(config, features),
            )
            for name, config in configs.items()
        )
        training = tuple(
            Case(name, partial(_head_training, config, features, setting))
            for name, config in configs.items()
        )
        against = ('FCNHead', 'DMHead', 'APCHead')
        title = f'losses and gradients, two times {shape}, labels {_STRIDE * size}×{_STRIDE * size}'
        comparisons += [
            Comparison(f'Heads: forward, {shape}', forward, against, HEADS_FACTS),
            Comparison(f'Heads: {title}', training, against, HEADS_FACTS),
        ]
    return comparisons


def _head_complexity(config, features):
    inputs = features(device='meta')
    return count(build(config), inputs, *previous_output(config, inputs))


def _head_forward(config, features, setting):
    inputs = features(device=setting.device)
    head = build(config, setting.device)
    return forward_step(head, inputs, *previous_output(config, inputs), setting=setting)


def _head_training(config, features, setting):
    # Two images, since a batch norm on a globally pooled map needs them.
    inputs = features(batch=2, device=setting.device)
    head = build(config, setting.device)
    size = _STRIDE * inputs[-1].size(-1)
    samples = labelled_samples(2, size, CLASSES, device=setting.device)

    def losses(*arguments):
        return head.loss(*arguments, samples, train_cfg=None)

    inputs = (inputs, *previous_output(config, inputs))
    return training_step(losses, head, *inputs, setting=setting)


def ctnet_linear(setting, channels=512):
    """CTNet's spatial context, linear in pixels, beside a non-local block, quadratic in them."""
    comparisons = []
    for size in setting.sizes or (64, 128, 256):
        shapes = [(1, channels, size, size), (1, channels, CLASSES)]
        scm = partial(SpatialContextModule, channels, norm_cfg=dict(type='BN'))
        non_local = partial(NonLocal2d, channels, norm_cfg=dict(type='BN'))
        attention = 4 * size**4  # bytes of a float for each pair of pixels
        cases = (
            _module_case('SpatialContextModule', scm, shapes, setting),
            # The attention and, beside it, its softmax.
            _module_case('NonLocal2d', non_local, shapes[:1], setting, needed_bytes=2 * attention),
        )
        title = f'Spatial context: forward, [1, {channels}, {size}, {size}], {CLASSES} classes'
        comparisons.append(Comparison(title, cases, ('NonLocal2d',)))
    return comparisons


def _module_case(name, make, shapes, setting, **options):
    def prepare():
        return forward_step(make(), *map(torch.rand, shapes), setting=setting)

    with torch.device('meta'):
        complexity = count(make(), *map(torch.empty, shapes))
    return Case(name, prepare, complexity=complexity, **options)


def cac_loss(setting, channels=512, classes=150):
    """The losses of CAC beside a plain head's and one full-size cross-entropy, two images."""
    comparisons = []
    head = head_config('FCNHead', channels, channels, classes, num_convs=0, concat_input=False)
    for size in setting.sizes or (64,):
        shape = (2, channels, size, size)
        samples = labelled_samples(2, _STRIDE * size, classes, device=setting.device)
        case = partial(_loss_case, shape=shape, samples=samples, setting=setting)
        cases = (
            Case('cross-entropy', partial(_cross_entropy, classes, size, samples, setting)),
            case('plain head', head),
            case('with CAC', wrapped(head)),
            case('plain head, no cross-entropy', head, alter=_skip_cross_entropy),
            case('with CAC, no cross-entropy', wrapped(head), alter=_skip_cross_entropy),
        )
        title = f'Losses and gradients: {list(shape)}, {classes} classes, labels {_STRIDE * size}²'
        floats = [2 * classes * size**2, 2 * channels * size**2]
        facts = (
            'The cross-entropy is that of small logits, with bilinear upsampling. What CAC adds '
            'apart from cross-entropies is the difference of the last two rows.',
            f'Small logits have {mib(4 * floats[0])} MiB, features {mib(4 * floats[1])} MiB.',
        )
        comparisons.append(Comparison(title, cases, ('cross-entropy', 'plain head'), facts))
    return comparisons


def _cross_entropy(classes, size, samples, setting):
    criterion = torch.nn.CrossEntropyLoss(ignore_index=255)
    label = torch.cat([sample.gt_sem_seg.data for sample in samples])  # [B, H, W]

    def losses(logits):
        return dict(loss=criterion(resize(logits, label.shape[1:], mode='bilinear'), label))

    return training_step(losses, criterion, torch.rand(2, classes, size, size), setting=setting)


def _loss_case(name, config, shape, samples, setting, alter=lambda head: None):
    def prepare():
        head = build(config, setting.device)
        alter(head)

        def losses(features):
            return head.loss([features] * 4, samples, train_cfg=None)

        return training_step(losses, head, torch.rand(shape), setting=setting)

    return Case(name, prepare)


def _skip_cross_entropy(head):
    """Put sums in place of the cross-entropies, so that all else is computed as it was."""
    head.loss_by_feat = lambda logits, samples: dict(loss=logits.sum())
    head.classifier_losses = lambda name, logits, *_: {f'loss_{name}': logits.sum()}


def cac_inference(setting):
    """Inference with and without the context-aware classifier: UPerNet, ResNet-50, 512×512."""
    return _cac_inference('UPerNet, ResNet-50', 'upernet/upernet_r50_4xb4-160k', (512,), setting)


def cac_sizes(setting):
    """Inference with and without the context-aware classifier at the sizes of its Table 6."""
    config = 'swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k'
    return _cac_inference('UPerNet, Swin-T', config, (512, 1280, 2560), setting)


def _cac_inference(name, config, sizes, setting):
    baseline = mmseg_model(config)
    models = {name: baseline, f'{name}, with CAC': with_cac(baseline)}
    comparisons = []
    for size in setting.sizes or sizes:
        cases = tuple(
            Case(
                case,
                partial(_inference, model, size, setting),
                complexity=count(build(model), torch.empty(1, 3, size, size, device='meta')),
            )
            for case, model in models.items()
        )
        comparisons.append(Comparison(f'Inference of one {size}×{size} image', cases, (name,)))
    return comparisons


def _inference(config, size, setting):
    """Return the step from an image to logits of its size."""
    model = build(config, setting.device)
    model.forward = partial(model.encode_decode, batch_img_metas=[dict(img_shape=(size, size))])
    return forward_step(model, torch.rand(1, 3, size, size), setting=setting)


SUITES = {
    'heads': heads,
    'ctnet-linear': ctnet_linear,
    'cac-loss': cac_loss,
    'cac-inference': cac_inference,
    'cac-sizes': cac_sizes,
}


def selected(comparisons, cases):
    """Return the comparisons with only some of their cases.

    Args:
        comparisons (Sequence[Comparison]): As a suite gives them.
        cases (Sequence[str]): Names of cases.

    Returns:
        list[Comparison]: Those in which a case is left.

    Raises:
        ValueError: A name is that of no case.
    """
    names = list(dict.fromkeys(case.name for each in comparisons for case in each.cases))
    unknown = [name for name in cases if name not in names]
    if unknown:
        raise ValueError(f'cases must be among {", ".join(names)}, got {unknown[0]!r}')
    chosen = [
        each._replace(
            cases=tuple(case for case in each.cases if case.name in cases),
            against=tuple(name for name in each.against if name in cases),
        )
        for each in comparisons
    ]
    return [each for each in chosen if each.cases]

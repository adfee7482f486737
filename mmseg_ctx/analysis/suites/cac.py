"""What the context-aware classifier adds to losses and to inference."""

from functools import partial

import torch
import torch.nn.functional as F
from mmseg.models.utils import resize

from mmseg_ctx.analysis.benchmark import Case, Comparison, mib
from mmseg_ctx.analysis.models import head_config, mmseg_model, with_cac, wrapped
from mmseg_ctx.analysis.suites.steps import STRIDE, forward_case, labelled_samples, training_step
from mmseg_ctx.ops import cosine_logits
from mmseg_ctx.utils.models import build


def cac_loss(setting, channels=512, classes=150):
    """The losses of CAC beside a plain head's and one full-size cross-entropy, two images."""
    head = head_config('FCNHead', channels, channels, classes, num_convs=0, concat_input=False)
    for size in setting.sizes or (64,):
        shape = (2, channels, size, size)
        samples = labelled_samples(2, STRIDE * size, classes, device=setting.device)
        step = partial(_loss_step, shape, samples, setting)
        cases = (
            Case(
                'cross-entropy',
                partial(_cross_entropy_step, (2, classes, size, size), samples, setting),
                note='cross-entropy is that of small logits, with bilinear upsampling.',
            ),
            Case('plain head', partial(step, head)),
            Case('with CAC', partial(step, wrapped(head))),
            Case('plain head, no cross-entropy', partial(step, head, cross_entropy=False)),
            Case(
                'with CAC, no cross-entropy',
                partial(step, wrapped(head), cross_entropy=False),
                note='What CAC adds apart from cross-entropies is what it needs without them, less '
                'what the plain head needs without them.',
            ),
        )
        title = f'Losses and gradients: {list(shape)}, {classes} classes, labels {STRIDE * size}²'
        floats = [2 * classes * size**2, 2 * channels * size**2]
        facts = (f'Small logits have {mib(4 * floats[0])} MiB, features {mib(4 * floats[1])} MiB.',)
        yield Comparison(title, cases, ('cross-entropy', 'plain head'), facts)


def _cross_entropy_step(shape, samples, setting):
    criterion = torch.nn.CrossEntropyLoss(ignore_index=255)
    label = torch.cat([sample.gt_sem_seg.data for sample in samples])  # [B, H, W]

    def losses(logits):
        return dict(loss=criterion(resize(logits, label.shape[1:], mode='bilinear'), label))

    return training_step(losses, criterion, torch.rand(shape), setting=setting)


def _loss_step(shape, samples, setting, config, cross_entropy=True):
    head = build(config, setting.device)
    if not cross_entropy:  # sums in their place, so that all else is computed as it was
        head.loss_by_feat = lambda logits, samples: dict(loss=logits.sum())
        head.classifier_losses = lambda name, logits, *_: {f'loss_{name}': logits.sum()}

    def losses(features):
        return head.loss([features] * 4, samples, train_cfg=None)

    return training_step(losses, head, torch.rand(shape), setting=setting)


def cac_cosine(setting, batch=2, channels=512, classes=150):
    """Cosine logits and their gradients, whose own backward pass has to pay, beside plain ones."""
    functions = {
        'cosine_logits': lambda x, weight: cosine_logits(x, weight, 1.0),
        'plain, logits divided': _divide_logits,
        'plain, features normalized': _normalize_features,
    }
    for size in setting.sizes or (64,):
        shapes = (batch, channels, size, size), (batch, classes, channels)
        cases = [
            Case(name, partial(_cosine_step, function, shapes, setting))
            for name, function in functions.items()
        ]
        title = f'Cosine logits and gradients: features {list(shapes[0])}, {classes} classes'
        facts = (f'The features have {mib(4 * batch * channels * size**2)} MiB.',)
        yield Comparison(title, cases, ('plain, logits divided',), facts)


def _cosine_step(function, shapes, setting):
    def losses(features, weight):
        return dict(loss=function(features, weight).square().mean())

    return training_step(losses, torch.nn.Identity(), *map(torch.randn, shapes), setting=setting)


def _divide_logits(features, weight):
    logits = F.normalize(weight, dim=2) @ features.flatten(2)  # [B, N, hw]
    return logits / torch.linalg.vector_norm(features.flatten(2), dim=1, keepdim=True)


def _normalize_features(features, weight):
    return F.normalize(weight, dim=2) @ F.normalize(features, dim=1).flatten(2)  # [B, N, hw]


def cac_inference(setting):
    """Inference with and without the context-aware classifier: UPerNet, ResNet-50, 512×512."""
    return _inference('UPerNet, ResNet-50', 'upernet/upernet_r50_4xb4-160k', (512,), setting)


def cac_sizes(setting):
    """Inference with and without the context-aware classifier at the sizes of its Table 6."""
    config = 'swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k'
    return _inference('UPerNet, Swin-T', config, (512, 1280, 2560), setting)


def _inference(name, config, sizes, setting):
    baseline = mmseg_model(config)
    models = {name: baseline, f'{name}, with CAC': with_cac(baseline)}
    for size in setting.sizes or sizes:
        cases = [_inference_case(case, models[case], size, setting) for case in models]
        yield Comparison(f'Inference of one {size}×{size} image', cases, (name,))


def _inference_case(name, config, size, setting):
    """Return the case from an image to logits of its size."""

    def make(device):
        model = build(config, device)
        model.forward = partial(model.encode_decode, batch_img_metas=[dict(img_shape=(size, size))])
        return model

    return forward_case(
        name, make, lambda device: [torch.rand(1, 3, size, size, device=device)], setting
    )

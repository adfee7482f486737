"""What the context-aware classifier adds to losses and to inference."""

from functools import partial

import torch
import torch.nn.functional as F
from mmseg.models.utils import resize

from mmseg_ctx.analysis.benchmark import Case, Comparison, mib
from mmseg_ctx.analysis.complexity import count
from mmseg_ctx.analysis.models import head_config, mmseg_model, with_cac, wrapped
from mmseg_ctx.analysis.suites.steps import STRIDE, forward_step, labelled_samples, training_step
from mmseg_ctx.ops import cosine_logits
from mmseg_ctx.utils.models import build


def cac_loss(setting, channels=512, classes=150):
    """The losses of CAC beside a plain head's and one full-size cross-entropy, two images."""
    comparisons = []
    head = head_config('FCNHead', channels, channels, classes, num_convs=0, concat_input=False)
    for size in setting.sizes or (64,):
        shape = (2, channels, size, size)
        samples = labelled_samples(2, STRIDE * size, classes, device=setting.device)
        case = partial(_loss_case, shape=shape, samples=samples, setting=setting)
        cases = (
            Case(
                'cross-entropy',
                partial(_cross_entropy, classes, size, samples, setting),
                note='cross-entropy is that of small logits, with bilinear upsampling.',
            ),
            case('plain head', head),
            case('with CAC', wrapped(head)),
            case('plain head, no cross-entropy', head, alter=_skip_cross_entropy),
            case(
                'with CAC, no cross-entropy',
                wrapped(head),
                alter=_skip_cross_entropy,
                note='What CAC adds apart from cross-entropies is what it needs without them, less '
                'what the plain head needs without them.',
            ),
        )
        title = f'Losses and gradients: {list(shape)}, {classes} classes, labels {STRIDE * size}²'
        floats = [2 * classes * size**2, 2 * channels * size**2]
        facts = (f'Small logits have {mib(4 * floats[0])} MiB, features {mib(4 * floats[1])} MiB.',)
        comparisons.append(Comparison(title, cases, ('cross-entropy', 'plain head'), facts))
    return comparisons


def _cross_entropy(classes, size, samples, setting):
    criterion = torch.nn.CrossEntropyLoss(ignore_index=255)
    label = torch.cat([sample.gt_sem_seg.data for sample in samples])  # [B, H, W]

    def losses(logits):
        return dict(loss=criterion(resize(logits, label.shape[1:], mode='bilinear'), label))

    return training_step(losses, criterion, torch.rand(2, classes, size, size), setting=setting)


def _loss_case(name, config, shape, samples, setting, alter=lambda head: None, note=''):
    def prepare():
        head = build(config, setting.device)
        alter(head)

        def losses(features):
            return head.loss([features] * 4, samples, train_cfg=None)

        return training_step(losses, head, torch.rand(shape), setting=setting)

    return Case(name, prepare, note=note)


def _skip_cross_entropy(head):
    """Put sums in place of the cross-entropies, so that all else is computed as it was."""
    head.loss_by_feat = lambda logits, samples: dict(loss=logits.sum())
    head.classifier_losses = lambda name, logits, *_: {f'loss_{name}': logits.sum()}


def cac_cosine(setting, batch=2, channels=512, classes=150):
    """Cosine logits and their gradients, whose own backward pass has to pay, beside plain ones."""
    comparisons = []
    for size in setting.sizes or (64,):
        inputs = (batch, channels, size, size), (batch, classes, channels)
        functions = {
            'cosine_logits': lambda x, weight: cosine_logits(x, weight, 1.0),
            'plain, logits divided': _divide_logits,
            'plain, features normalized': _normalize_features,
        }
        cases = tuple(
            Case(name, partial(_cosine_step, function, inputs, setting))
            for name, function in functions.items()
        )
        title = f'Cosine logits and gradients: features {list(inputs[0])}, {classes} classes'
        facts = (f'The features have {mib(4 * batch * channels * size**2)} MiB.',)
        comparisons.append(Comparison(title, cases, ('plain, logits divided',), facts))
    return comparisons


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

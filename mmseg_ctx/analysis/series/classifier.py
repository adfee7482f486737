"""What the context-aware classifier adds to losses and to inference."""

from functools import partial

import torch

from mmseg_ctx.analysis.benchmark import Comparison, mib
from mmseg_ctx.analysis.models import head_config, mmseg_model, with_cac, wrapped
from mmseg_ctx.analysis.series.steps import (
    OURS,
    STOCK,
    STRIDE,
    compare_forward,
    cross_entropy_of,
    labelled_samples,
    segmentor_step,
    training_step,
)
from mmseg_ctx.utils.models import build


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
    losses = cross_entropy_of(labelled_samples(logits, logits.size(1), setting.device))
    return training_step(losses, torch.nn.Identity(), logits, setting=setting)


def cac_inference(sizes=(512,), name='UPerNet, ResNet-50', config='upernet/upernet_r50_4xb4-160k'):
    """Inference with and without the context-aware classifier: UPerNet, ResNet-50, 512×512."""
    baseline = mmseg_model(config)
    models = {name: baseline, f'{name}, with CAC': with_cac(baseline)}
    for size in sizes:
        image = torch.empty(1, 3, size, size, device='meta')
        built = {key: (partial(_build, model, size), (image,)) for key, model in models.items()}
        yield compare_forward(f'Inference of one {size}×{size} image', built, (name,))


def _build(config, size, device):
    """Return a model whose forward pass goes from an image to logits of its size."""
    model = build(config, device)
    model.forward = partial(model.encode_decode, batch_img_metas=[dict(img_shape=(size, size))])
    return model


def cac_sizes(sizes=(512, 1280, 2560)):
    """Inference with and without the context-aware classifier at the sizes of its Table 6."""
    config = 'swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k'
    return cac_inference(sizes, 'UPerNet, Swin-T', config)

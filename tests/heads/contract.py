"""Every head in a segmentor whose images are the features that the heads read, and its losses."""

import torch
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tests.helpers import data_samples
from tests.small_models import FCN, HEAD, METHODS, randomize, segmentor_config, with_cac

# A list is a cascade. A method gets its rows by its line in ``METHODS``.
HEADS = {
    **METHODS,
    'CAC on FCN': with_cac(FCN),
    'CAC on OCR': [FCN, with_cac(dict(HEAD, type='OCRHead', ocr_channels=6))],
    **{f'CAC on {name}': with_cac(head) for name, head in METHODS.items()},
}
CLASSES = HEAD['num_classes']


@MODELS.register_module(force=True)
class GivenFeatures(nn.Module):
    """In the place of a backbone: its features are given."""

    def forward(self, features):
        """Return the features."""
        return features


def changed(head, cac={}, **arguments):
    """Return a row of ``HEADS`` with other arguments, ``cac`` of the context-aware classifier."""
    if isinstance(head, list):
        return [changed(each, cac, **arguments) for each in head]
    if 'head' in head:
        return {**head, **cac, 'head': changed(head['head'], **arguments)}
    return {**head, **arguments}


def build(name, kind='MemoryEfficientEncoderDecoder', **arguments):
    """Return a segmentor with a row of ``HEADS``, initialised alike each time, without dropout."""
    head = changed(HEADS[name], **{'dropout_ratio': 0, **arguments})
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        return MODELS.build(
            segmentor_config(head, kind) | dict(backbone=dict(type='GivenFeatures'))
        )


def build_random(name, device='cpu', **arguments):
    """Return such a segmentor with weights and statistics that are not the trivial ones."""
    return randomize(build(name, **arguments)).to(device)


def freeze_norms(model):
    """Let batch norms use and keep their statistics, as ``norm_eval=True`` does."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


def features(device, batch=2, sizes=((16, 14), (8, 7), (8, 7))):
    """Return maps as a backbone of strides 4, 8 and 8 has them, finest first."""
    generator = torch.Generator().manual_seed(1)
    shapes = [(batch, channels, *size) for channels, size in zip((4, 8, 16), sizes, strict=True)]
    return [torch.randn(shape, generator=generator).to(device) for shape in shapes]


def labels(device, batch=2, size=(61, 51)):
    """Return labels of all classes ``[B, *size]``, some ignored."""
    generator = torch.Generator().manual_seed(2)
    label = torch.randint(CLASSES, (batch, *size), generator=generator)
    label[:, :5] = 255
    return label.to(device)


def losses_of(model, inputs, label):
    """Return the losses of a model, by name."""
    return model.loss(inputs, data_samples(label))


def total(losses):
    """Return the sum of what MMEngine optimises."""
    return sum(value for name, value in losses.items() if 'loss' in name)


def losses_and_gradients(model, inputs, label):
    """Return the losses, and the gradient of each parameter; raise if one has none."""
    losses = losses_of(model, inputs, label)
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(total(losses), parameters)
    detached = {name: loss.detach() for name, loss in losses.items()}
    return detached, dict(zip(names, gradients, strict=True))


def flat(gradients):
    """Return all gradients as one vector: a parameter's own may be all but zero."""
    return torch.cat([gradient.flatten() for gradient in gradients.values()])


def assert_finite(losses, gradients):
    """Assert that each loss and each gradient is finite, by name."""
    for name, value in (losses | gradients).items():
        assert value.isfinite().all(), name

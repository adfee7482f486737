"""CaC-Net's convolution against the paper's equations, and the head against its branches."""

import itertools

import numpy as np
import pytest
import torch

from mmseg_ctx.heads import ContextAdaptiveConvHead
from mmseg_ctx.heads.cacnet import ContextAdaptiveConv
from tests.helpers import assert_relative
from tests.ops.test_spatial_weights import naive_weights
from tests.small_models import functional, randomize

SOURCES = ['context', 'fixed', 'pooled']
SMALL = dict(in_channels=12, channels=8, num_classes=5, norm_cfg=dict(type='BN'))


def numpy_parameters(module):
    return {name: tensor.double().numpy() for name, tensor in module.state_dict().items()}


def pointwise(x, weight, bias):
    """A 1×1 convolution of ``x`` [C, h, w], one place at a time."""
    out = np.zeros((weight.shape[0], *x.shape[1:]))
    for i, j in itertools.product(*map(range, x.shape[1:])):
        out[:, i, j] = weight[:, :, 0, 0] @ x[:, i, j] + bias
    return out


def naive_similarity(x, state, size):
    """Eq. 1 over n, an entry of each image's kernels at a time."""
    batch, channels, height, width = x.shape
    similarity = np.zeros((batch, channels, size, size))
    for b in range(batch):
        query = pointwise(x[b], state['query.weight'], state['query.bias'])
        key = pointwise(x[b], state['key.weight'], state['key.bias'])
        for c, u, v in itertools.product(range(channels), range(size), range(size)):
            for i, j in itertools.product(range(height), range(width)):
                similarity[b, c, u, v] += query[u * size + v, i, j] * key[c, i, j]
    return similarity / (height * width)


def naive_norm(kernels, state, training):
    """Batch norm, a channel at a time."""
    normed = np.zeros_like(kernels)
    for c in range(kernels.shape[1]):
        mean, variance = state['norm.running_mean'][c], state['norm.running_var'][c]
        if training:
            mean, variance = kernels[:, c].mean(), kernels[:, c].var()
        scaled = (kernels[:, c] - mean) / np.sqrt(variance + 1e-5)
        normed[:, c] = state['norm.weight'][c] * scaled + state['norm.bias'][c]
    return normed


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize(('size', 'dilations'), [(3, (1, 2, 3)), (5, (2,))])
@pytest.mark.parametrize('shape', [(2, 3, 5, 4), (1, 4, 7, 3), (2, 3, 1, 1)])
def test_equals_the_equations(shape, size, dilations, training):
    module = randomize(ContextAdaptiveConv(shape[1], size, dilations)).double().train(training)
    module.norm.running_mean.normal_(0, 0.3)
    state = numpy_parameters(module)
    x = torch.randn(shape, dtype=torch.float64)
    kernels = naive_norm(naive_similarity(x.numpy(), state, size), state, training)
    weights = naive_weights(x.numpy(), kernels, dilations)
    with torch.no_grad():
        assert_relative(module.predict_kernels(x), kernels, 1e-10)
        assert_relative(module(x), x.numpy() * weights, 1e-10)


@pytest.mark.parametrize('source', ['fixed', 'pooled'])
def test_other_sources_equal_their_definition(source):
    module = randomize(ContextAdaptiveConv(3, kernel_source=source)).double().eval()
    state = numpy_parameters(module)
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    if source == 'fixed':
        kernels = np.stack([state['kernels']] * 2)
    else:
        kernels = np.zeros((2, 3, 3, 3))
        for b, c, u, v in itertools.product(range(2), range(3), range(3), range(3)):
            row = (c * 3 + u) * 3 + v
            pooled = x.numpy()[b].mean((1, 2))
            kernels[b, c, u, v] = state['fc.weight'][row] @ pooled + state['fc.bias'][row]
        kernels = naive_norm(kernels, state, training=False)
    with torch.no_grad():
        assert_relative(module.predict_kernels(x), kernels, 1e-10)
        assert_relative(module(x), x * naive_weights(x.numpy(), kernels, (1, 2, 3)), 1e-10)


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('source', SOURCES)
def test_gradients(source, training):
    module = randomize(ContextAdaptiveConv(2, kernel_source=source)).train(training)
    assert torch.autograd.gradcheck(*functional(module, torch.randn(2, 2, 3, 4)))


@pytest.mark.parametrize('norm_cfg', [dict(type='SyncBN'), None])
def test_kernels_are_normalised_as_the_head_is(norm_cfg):
    head = ContextAdaptiveConvHead(**SMALL | dict(norm_cfg=norm_cfg, global_pooling=False))
    kind = torch.nn.SyncBatchNorm if norm_cfg else torch.nn.BatchNorm2d
    assert all(isinstance(module.norm, kind) for module in head.context_convs)
    assert head.merge.in_channels == 2 * 8


def test_head_equals_its_branches():
    head = randomize(ContextAdaptiveConvHead(**SMALL, kernel_sizes=(3, 5), dilations=(1, 4))).eval()
    assert [module.kernel_size for module in head.context_convs] == [3, 5]
    assert all(module.dilations == (1, 4) for module in head.context_convs)
    x = torch.randn(2, 12, 5, 6)
    first, second = (
        conv(reduction(x))
        for conv, reduction in zip(head.context_convs, head.reductions, strict=True)
    )
    pooled = head.global_pool[1](x.mean((2, 3), keepdim=True)).repeat(1, 1, 5, 6)
    merged = head.merge(torch.cat([first, second, pooled], dim=1))
    torch.testing.assert_close(head([x]), head.conv_seg(merged))

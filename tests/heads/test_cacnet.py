import copy
import itertools

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict

from mmseg_ctx.analysis.complexity import count
from mmseg_ctx.heads import ContextAdaptiveConvHead
from mmseg_ctx.heads.cacnet import ContextAdaptiveConv
from tests.helpers import assert_relative, data_samples
from tests.ops.test_spatial_weights import naive_weights

SOURCES = ['context', 'fixed', 'pooled']
SMALL = dict(in_channels=12, channels=8, num_classes=5, norm_cfg=dict(type='BN'))


def seeded(module):
    """Give a module weights and running statistics that are not the trivial ones."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                tensor.normal_(0, 0.3)
            if name.endswith('running_var'):
                tensor.abs_().add_(0.5)
    return module


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
    module = seeded(ContextAdaptiveConv(shape[1], size, dilations)).double().train(training)
    state = numpy_parameters(module)
    x = torch.randn(shape, dtype=torch.float64)
    kernels = naive_norm(naive_similarity(x.numpy(), state, size), state, training)
    weights = naive_weights(x.numpy(), kernels, dilations)
    with torch.no_grad():
        predicted = module.predict_kernels(x)
        assert_relative(predicted, kernels, 1e-10)
        assert_relative(module.weights(x, predicted), weights, 1e-10)
        assert_relative(module(x), x.numpy() * weights, 1e-10)


@pytest.mark.parametrize('source', ['fixed', 'pooled'])
def test_other_sources_equal_their_definition(source):
    module = seeded(ContextAdaptiveConv(3, kernel_source=source)).double().eval()
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
@pytest.mark.parametrize('shape', [(2, 2, 3, 4), (1, 2, 2, 2)])
def test_gradients(shape, source, training):
    module = seeded(ContextAdaptiveConv(2, kernel_source=source)).double().train(training)
    names, parameters = zip(*module.named_parameters(), strict=True)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)

    def forward(x, *parameters):
        return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), x)

    assert torch.autograd.gradcheck(forward, (x, *parameters))


@pytest.mark.parametrize('training', [False, True])
def test_a_tiled_image_predicts_the_same_kernels(training):
    module = seeded(ContextAdaptiveConv(4)).train(training)
    x = torch.randn(2, 4, 6, 5)
    expected = module.predict_kernels(x)
    torch.testing.assert_close(module.predict_kernels(x.tile(1, 1, 2, 2)), expected)
    assert (module.predict_kernels(x * 2) - expected).abs().max() > 1e-2


def test_what_kernels_depend_on():
    x = torch.randn(2, 4, 6, 5)
    flat = x.mean((2, 3), keepdim=True).expand_as(x)
    modules = {source: seeded(ContextAdaptiveConv(4, kernel_source=source)) for source in SOURCES}
    kernels = {source: module.eval().predict_kernels(x) for source, module in modules.items()}
    change = {
        source: (module.predict_kernels(flat) - kernels[source]).abs().max()
        for source, module in modules.items()
    }
    assert torch.equal(kernels['fixed'][0], kernels['fixed'][1])
    assert (kernels['pooled'][0] - kernels['pooled'][1]).abs().max() > 1e-2
    assert change['fixed'] == 0
    assert change['pooled'] < 1e-5
    assert change['context'] > 1e-2


@pytest.mark.parametrize('source', SOURCES)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_large_features_under_autocast(source, dtype):
    module = seeded(ContextAdaptiveConv(4, kernel_source=source))
    if source != 'fixed':
        # Kernels whose taps cancel on large features, so that not every sigmoid saturates.
        module.norm.weight.data.mul_(1e-4)
        module.norm.bias.data.zero_()
    x = (1e4 * (2 * torch.rand(2, 4, 6, 5) - 1)).to(dtype)
    leaf = x.clone().requires_grad_()
    with torch.autocast('cpu', dtype):
        actual = module(leaf)
    assert actual.dtype == dtype
    expected = copy.deepcopy(module).double()(x.double())
    assert_relative(actual.detach(), expected.detach(), 3 * torch.finfo(dtype).eps)
    actual.sum().backward()
    assert torch.isfinite(leaf.grad).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in module.parameters())


@pytest.mark.parametrize('norm_cfg', [dict(type='SyncBN'), dict(type='BN'), None])
def test_kernels_are_normalised_as_the_head_is(norm_cfg):
    head = ContextAdaptiveConvHead(**dict(SMALL, norm_cfg=norm_cfg))
    expected = torch.nn.SyncBatchNorm if norm_cfg == dict(type='SyncBN') else torch.nn.BatchNorm2d
    for module in head.context_convs:
        assert isinstance(module.norm, expected)
        assert module.norm.num_features == 8


def test_branches():
    head = ContextAdaptiveConvHead(**SMALL, kernel_sizes=(3, 5, 7), dilations=(1, 4))
    assert [module.kernel_size for module in head.context_convs] == [3, 5, 7]
    assert all(module.dilations == (1, 4) for module in head.context_convs)
    assert head.merge.in_channels == 4 * 8
    assert ContextAdaptiveConvHead(**SMALL, global_pooling=False).merge.in_channels == 2 * 8
    # Each has a reduction of its own.
    assert len({reduction.conv.weight.data_ptr() for reduction in head.reductions}) == 3


def test_head_equals_its_branches():
    head = seeded(ContextAdaptiveConvHead(**SMALL)).eval()
    x = torch.randn(2, 12, 5, 6)
    first, second = (
        conv(reduction(x))
        for conv, reduction in zip(head.context_convs, head.reductions, strict=True)
    )
    pooled = head.global_pool[1](x.mean((2, 3), keepdim=True)).repeat(1, 1, 5, 6)
    merged = head.merge(torch.cat([first, second, pooled], dim=1))
    torch.testing.assert_close(head([x]), head.conv_seg(merged))
    far = x.clone()
    far[..., -1, -1] += 10
    assert (head([far]) - head([x]))[..., 0, 0].abs().min() > 0


def test_resize_concat():
    head = ContextAdaptiveConvHead(
        **dict(SMALL, in_channels=[4, 8]), in_index=[0, 1], input_transform='resize_concat'
    )
    assert head([torch.rand(2, 4, 8, 8), torch.rand(2, 8, 4, 4)]).shape == (2, 5, 8, 8)


@pytest.mark.parametrize('source', ['fixed', 'pooled'])
def test_other_sources_train_and_export(source):
    head = seeded(ContextAdaptiveConvHead(**SMALL, kernel_source=source))
    inputs, labels = [torch.randn(2, 12, 7, 5)], torch.randint(0, 5, (2, 53, 35))
    head.loss(inputs, data_samples(labels), ConfigDict())['loss_ce'].backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in head.parameters())
    program = torch.export.export(head.eval(), (inputs,)).module()
    torch.testing.assert_close(program(inputs), head(inputs))


def test_budget_of_table_7():
    # Of the whole head, its classifier included.
    with torch.device('meta'):
        head = ContextAdaptiveConvHead(2048, 512, num_classes=60, norm_cfg=dict(type='BN'))
        parameters, multiply_adds = count(head, [torch.empty(1, 2048, 64, 64)])
    assert parameters <= 5.6e6
    assert multiply_adds <= 22e9


def test_kernel_prediction_is_as_cheap_as_section_3_1_has_it():
    size, channels, places = 3, 64, 16 * 16
    parameters = {}
    with torch.device('meta'):
        for source in SOURCES:
            module = ContextAdaptiveConv(channels, size, kernel_source=source)
            learned = [p for name, p in module.named_parameters() if 'norm' not in name]
            parameters[source] = sum(p.numel() for p in learned if p.dim() > 1)
        module = ContextAdaptiveConv(channels, size)
        module.forward = module.predict_kernels
        cost = count(module, torch.empty(1, channels, 16, 16)).multiply_adds
    assert parameters['context'] == channels**2 + size**2 * channels
    assert parameters['pooled'] == size**2 * channels**2
    assert parameters['fixed'] == size**2 * channels
    # The query and the product at each place; the key at no more than s² of them.
    assert cost == 2 * size**2 * channels * places + size**2 * channels**2


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(kernel_sizes=()), r'kernel_sizes must be a non-empty list .* >= 3, got \(\)'),
        (dict(kernel_sizes=3), 'kernel_sizes must be a non-empty list .* >= 3, got 3'),
        (dict(kernel_sizes=(3, 1)), r'kernel_sizes must be .* integers >= 3, got \(3, 1\)'),
        (dict(kernel_sizes=(3, 4)), r'kernel_sizes must be odd, .*got \(3, 4\)'),
        (dict(dilations=(1, 0)), r'dilations must be .* integers >= 1, got \(1, 0\)'),
        (dict(global_pooling=1), 'global_pooling must be True or False, got 1'),
        (
            dict(kernel_source='learned'),
            "kernel_source must be one of 'context', 'fixed', 'pooled', got 'learned'",
        ),
        (
            dict(in_channels=[4, 8], in_index=[0, 1], input_transform='multiple_select'),
            "input_transform must be None or 'resize_concat'",
        ),
    ],
)
def test_bad_arguments_of_the_head(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message) as error:
        ContextAdaptiveConvHead(**dict(SMALL, **arguments))
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(channels=0), 'channels must be an integer >= 1, got 0'),
        (dict(kernel_size=1), 'kernel_size must be an integer >= 3, got 1'),
        (dict(kernel_size=4), 'kernel_size must be odd, .*got 4'),
        (dict(dilations=2), 'dilations must be a non-empty list .*got 2'),
        (dict(kernel_source=None), "kernel_source must be one of 'context', .*got None"),
    ],
)
def test_bad_arguments_of_the_module(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        ContextAdaptiveConv(**dict(dict(channels=8), **arguments))

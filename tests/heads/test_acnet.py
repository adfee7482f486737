import copy
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmseg.models.backbones import ResNetV1c

from mmseg_ctx.analysis.complexity import count
from mmseg_ctx.heads import AdaptiveContextHead
from mmseg_ctx.heads.acnet import AdaptiveContextBlock, GlobalContextModule, LocalContextModule
from tests.helpers import assert_relative, data_samples

BN = dict(type='BN')
SMALL = dict(
    in_channels=(6, 8, 12),
    in_index=(0, 1, 3),
    channels=6,
    block_channels=(10, 8, 6),
    num_classes=5,
    norm_cfg=BN,
)


def features(batch=2, sizes=((16, 14), (8, 7), (4, 4), (4, 4))):
    """What an encoder of four stages returns; the head does not read the third."""
    return [torch.randn(batch, c, *size) for c, size in zip((6, 8, 3, 12), sizes, strict=True)]


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


def naive_global_context(x, state, delta):
    """Eq. 1 to 3, a place and channel at a time."""
    batch, channels, height, width = x.shape
    places = list(itertools.product(range(height), range(width)))
    context, gate = np.zeros_like(x), np.zeros((batch, 1, height, width))
    for b in range(batch):
        pooled = [sum(x[b, c, i, j] for i, j in places) / len(places) for c in range(channels)]
        p = state['project.weight'][:, :, 0, 0] @ pooled + state['project.bias']
        distance = {
            (i, j): sum((x[b, c, i, j] - p[c]) ** 2 for c in range(channels)) ** 0.5
            for i, j in places
        }
        nearest = min(distance.values())
        for i, j in places:
            gate[b, 0, i, j] = np.exp(-(distance[i, j] - nearest) / delta)
            for c in range(channels):
                context[b, c, i, j] = x[b, c, i, j] + state['alpha'] * gate[b, 0, i, j] * p[c]
    return context, gate


def naive_upsample(x, size):
    """Bilinear interpolation of ``x`` [h, w] between the centres of its pixels."""

    def place(target, length, new_length):
        source = min(max((target + 0.5) * length / new_length - 0.5, 0), length - 1)
        low = int(source)
        return low, min(low + 1, length - 1), source - low

    out = np.zeros(size)
    for i, j in itertools.product(*map(range, size)):
        top, bottom, down = place(i, x.shape[0], size[0])
        left, right, along = place(j, x.shape[1], size[1])
        upper = (1 - along) * x[top, left] + along * x[top, right]
        lower = (1 - along) * x[bottom, left] + along * x[bottom, right]
        out[i, j] = (1 - down) * upper + down * lower
    return out


def naive_conv(x, weight, bias):
    """A 3×3 convolution of ``x`` [C, h, w] and a ReLU, a place and tap at a time."""
    height, width = x.shape[1:]
    out = np.zeros((weight.shape[0], height, width))
    for i, j in itertools.product(range(height), range(width)):
        out[:, i, j] = bias
        for u, v in itertools.product(range(3), repeat=2):
            row, column = i + u - 1, j + v - 1
            if 0 <= row < height and 0 <= column < width:
                out[:, i, j] += weight[:, :, u, v] @ x[:, row, column]
    return np.maximum(out, 0)


def naive_local_context(x, local, gate, state, num_fusions):
    """Eq. 4 and 5, ``num_fusions`` times, an image at a time."""
    fused = []
    for image, detail, image_gate in zip(x, local, gate[:, 0], strict=True):
        local_gate = 1 - naive_upsample(image_gate, detail.shape[1:])
        for t in range(num_fusions):
            joined = [state['beta'] * local_gate * channel for channel in detail] + list(image)
            prefix = f'fusions.{t}.conv'
            image = naive_conv(np.stack(joined), state[f'{prefix}.weight'], state[f'{prefix}.bias'])
        fused.append(image)
    return np.stack(fused)


@pytest.mark.parametrize('delta', [5.0, 0.3])
@pytest.mark.parametrize('shape', [(2, 3, 5, 4), (1, 4, 7, 3), (2, 3, 1, 1)])
def test_global_context_equals_the_equations(shape, delta):
    module = seeded(GlobalContextModule(shape[1], delta)).double()
    x = torch.randn(shape, dtype=torch.float64)
    expected = naive_global_context(x.numpy(), numpy_parameters(module), delta)
    with torch.no_grad():
        context, gate = module(x)
    assert_relative(context, expected[0], 1e-12)
    assert_relative(gate, expected[1], 1e-12)
    assert gate.min() > 0
    assert torch.equal(gate.amax((1, 2, 3)), torch.ones(shape[0], dtype=torch.float64))


@pytest.mark.parametrize('num_fusions', [1, 2, 3])
@pytest.mark.parametrize('gate_size', [(3, 2), (5, 4)])
def test_local_context_equals_the_equations(gate_size, num_fusions):
    module = seeded(LocalContextModule(3, 2, 4, num_fusions)).double()
    x, local = torch.randn(2, 3, 5, 4).double(), torch.randn(2, 2, 5, 4).double()
    gate = torch.rand(2, 1, *gate_size).double()
    arrays = [tensor.numpy() for tensor in (x, local, gate)]
    expected = naive_local_context(*arrays, numpy_parameters(module), num_fusions)
    assert len(module.fusions) == num_fusions
    with torch.no_grad():
        assert_relative(module(x, local, gate), expected, 1e-12)


def test_block_is_global_upsampling_local():
    block = seeded(AdaptiveContextBlock(4, 6, 3, 2)).double().eval()
    x, feature = torch.randn(2, 4, 3, 3).double(), torch.randn(2, 6, 7, 5).double()
    state = numpy_parameters(block)

    def part(name):
        return {key[len(name) :]: value for key, value in state.items() if key.startswith(name)}

    context, gate = naive_global_context(x.numpy(), part('global_context.'), 5.0)
    up = np.stack([[naive_upsample(channel, (7, 5)) for channel in image] for image in context])
    reduce = part('reduce.conv.')
    local = np.stack([naive_conv(f, reduce['weight'], reduce['bias']) for f in feature.numpy()])
    expected = naive_local_context(up, local, gate, part('local_context.'), 3)
    with torch.no_grad():
        assert_relative(block(x, feature), expected, 1e-12)


def test_scale_parameters_start_at_one():
    assert GlobalContextModule(4).alpha.item() == 1
    assert LocalContextModule(4, 4, 4).beta.item() == 1


def inputs_and_parameters(module, *inputs):
    names, parameters = zip(*module.named_parameters(), strict=True)
    module.double()
    leaves = [tensor.double().requires_grad_() for tensor in inputs]

    def forward(*arguments):
        state = dict(zip(names, arguments[len(leaves) :], strict=True))
        return torch.func.functional_call(module, state, arguments[: len(leaves)])

    return forward, (*leaves, *(parameter for parameter in parameters))


@pytest.mark.parametrize('shape', [(2, 3, 3, 2), (1, 2, 1, 1)])
def test_gradients_of_the_global_context(shape):
    module = seeded(GlobalContextModule(shape[1], delta=0.7))
    assert torch.autograd.gradcheck(*inputs_and_parameters(module, torch.randn(shape)))


def test_gradients_of_the_local_context():
    module = seeded(LocalContextModule(2, 3, 2, num_fusions=2, act_cfg=dict(type='Tanh')))
    inputs = torch.randn(2, 2, 3, 4), torch.randn(2, 3, 3, 4), torch.rand(2, 1, 2, 2)
    assert torch.autograd.gradcheck(*inputs_and_parameters(module, *inputs))


def test_gradients_of_the_block():
    block = AdaptiveContextBlock(2, 3, 2, 2, num_fusions=2, act_cfg=dict(type='Tanh'))
    inputs = torch.randn(1, 2, 2, 2), torch.randn(1, 3, 3, 4)
    assert torch.autograd.gradcheck(*inputs_and_parameters(seeded(block), *inputs))


@pytest.mark.parametrize('features_are', ['at the global feature', 'constant', 'zero'])
def test_gradients_are_finite_where_distances_vanish(features_are):
    module = GlobalContextModule(3)
    x = torch.randn(2, 3, 4, 4)
    if features_are == 'at the global feature':
        # p is a constant that two of the places have exactly.
        module.project.weight.data.zero_()
        x[:, :, 1, 2] = x[:, :, 3, 0] = module.project.bias.data
    else:
        x = x.mean((2, 3), keepdim=True).expand(2, 3, 4, 4) * (features_are == 'constant')
        module.project.bias.data.zero_()
    x = x.clone().requires_grad_()
    context, gate = module(x)
    (context.square().sum() + gate.square().sum()).backward()
    for tensor in (x, *module.parameters()):
        assert torch.isfinite(tensor.grad).all()
    assert x.grad.abs().sum() > 0 or features_are == 'zero'
    if features_are == 'at the global feature':
        assert (gate[:, 0, [1, 3], [2, 0]] == 1).all()
    else:
        assert (gate == 1).all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(('spread', 'delta'), [(200, 50.0), (1e4, 5.0)])
def test_large_features_under_autocast(dtype, spread, delta):
    # The global feature is the mean. Places are a few roundings apart, so that a rounded mean
    # would show in the gate; or so far apart that float32 has no number for the gate.
    module = GlobalContextModule(4, delta)
    torch.nn.init.dirac_(module.project.weight)
    x = (1e4 + spread * torch.rand(2, 4, 6, 5)).to(dtype)
    leaf = x.clone().requires_grad_()
    with torch.autocast('cpu', dtype):
        context, gate = module(leaf)
    expected_context, expected_gate = copy.deepcopy(module).double()(x.double())
    assert gate.dtype == torch.float32
    assert context.dtype == dtype
    assert 0 < gate.min() <= gate.max() == 1
    # A float32 distance of 1e4 is rounded by 1e-3, then divided by δ.
    torch.testing.assert_close(gate.double(), expected_gate, rtol=0, atol=1e-3)
    assert_relative(context.detach(), expected_context.detach(), torch.finfo(dtype).eps)
    (context.sum() + gate.sum()).backward()
    for tensor in (leaf, *module.parameters()):
        assert torch.isfinite(tensor.grad).all()


def test_local_context_under_autocast():
    module = seeded(LocalContextModule(3, 2, 4))
    x, local, gate = torch.randn(2, 3, 8, 6), torch.randn(2, 2, 8, 6), torch.rand(2, 1, 4, 3)
    expected = module(x, local, gate)
    with torch.autocast('cpu', torch.bfloat16):
        actual = module(x.bfloat16(), local.bfloat16(), gate)
    assert actual.dtype == torch.bfloat16
    assert_relative(actual.detach(), expected.detach(), 0.05)


@pytest.mark.parametrize('blocks', [1, 2, 3])
def test_one_to_three_blocks(blocks):
    arguments = dict(
        SMALL,
        in_channels=(6, 8, 12)[-blocks:],
        in_index=(0, 1, 3)[-blocks:],
        block_channels=(10, 8, 6)[:blocks],
        channels=(10, 8, 6)[blocks - 1],
    )
    head = AdaptiveContextHead(**arguments)
    modules = list(head.modules())
    assert sum(isinstance(module, GlobalContextModule) for module in modules) == blocks
    assert sum(isinstance(module, LocalContextModule) for module in modules) == blocks - 1
    assert head(features()).shape[2:] == ((4, 4), (8, 7), (16, 14))[blocks - 1]
    del arguments['channels']
    assert AdaptiveContextHead(**arguments).channels == head.channels


@pytest.mark.parametrize('blocks', [1, 2])
@pytest.mark.parametrize('fusions', [1, 2, 3])
def test_blocks_with_a_local_module_alone(blocks, fusions):
    """The counts of the paper's Tables 2 and 3: each block has a global and a local module."""
    arguments = dict(
        SMALL,
        in_channels=(6, 8, 12)[-blocks - 1 :],
        in_index=(0, 1, 3)[-blocks - 1 :],
        block_channels=(10, 8, 6)[: blocks + 1],
        channels=(10, 8, 6)[blocks],
        num_local_fusions=fusions,
    )
    head = seeded(AdaptiveContextHead(**arguments, last_global_context=False)).eval()
    modules = list(head.modules())
    assert sum(isinstance(module, GlobalContextModule) for module in modules) == blocks
    assert sum(isinstance(module, LocalContextModule) for module in modules) == blocks
    fine, middle, _, coarse = inputs = features()
    x = head.reduce(coarse)
    for block, feature in zip(head.blocks, (middle, fine), strict=False):
        assert len(block.local_context.fusions) == fusions
        x = block(x, feature)
    torch.testing.assert_close(head(inputs), head.conv_seg(x))
    # A checkpoint of the whole head has these weights and the last module's.
    whole = AdaptiveContextHead(**arguments).state_dict()
    rest = whole.keys() - head.state_dict().keys()
    assert head.state_dict().keys() <= whole.keys()
    assert all(name.startswith('global_context.') for name in rest)


def test_last_global_context_must_be_a_bool():
    with pytest.raises(TypeError, match=r'^last_global_context '):
        AdaptiveContextHead(**SMALL, last_global_context='no')


def test_widths_of_the_paper():
    with torch.device('meta'):
        head = AdaptiveContextHead(
            (256, 512, 2048), in_index=(0, 1, 3), channels=256, num_classes=19, norm_cfg=BN
        )
    assert head.reduce.conv.weight.shape == (512, 2048, 3, 3)
    first, second = head.blocks
    assert first.reduce.conv.weight.shape == (512, 512, 3, 3)
    assert second.reduce.conv.weight.shape == (448, 256, 3, 3)
    for block, width, fused in ((first, 512, 448), (second, 448, 256)):
        # Eq. 5: the local features are as wide as the features that they join.
        shapes = [tuple(fusion.conv.weight.shape) for fusion in block.local_context.fusions]
        assert shapes == [(fused, 2 * width, 3, 3)] + 2 * [(fused, width + fused, 3, 3)]
    assert all(m.delta == 5.0 for m in head.modules() if isinstance(m, GlobalContextModule))


@pytest.mark.parametrize(('local_channels', 'widths'), [(4, [4, 4]), ((3, 5), [3, 5])])
def test_local_channels(local_channels, widths):
    head = AdaptiveContextHead(**SMALL, local_channels=local_channels)
    assert [block.reduce.out_channels for block in head.blocks] == widths
    assert head(features()).shape == (2, 5, 16, 14)


def test_head_equals_its_blocks():
    head = seeded(AdaptiveContextHead(**SMALL, delta=2.0, num_local_fusions=1)).eval()
    fine, middle, _, coarse = inputs = features()
    x = head.blocks[0](head.reduce(coarse), middle)
    x = head.blocks[1](x, fine)
    context, _ = head.global_context(x)
    torch.testing.assert_close(head(inputs), head.conv_seg(context))
    assert [len(block.local_context.fusions) for block in head.blocks] == [1, 1]
    assert all(m.delta == 2.0 for m in head.modules() if isinstance(m, GlobalContextModule))


@pytest.mark.parametrize('align_corners', [False, True])
def test_align_corners(align_corners):
    head = seeded(AdaptiveContextHead(**SMALL, align_corners=align_corners)).eval()
    block = head.blocks[0]
    _, middle, _, coarse = features()
    context, gate = block.global_context(head.reduce(coarse))
    up = [
        F.interpolate(x, (8, 7), mode='bilinear', align_corners=align_corners)
        for x in (context, gate)
    ]
    expected = block.local_context(up[0], block.reduce(middle), up[1])
    torch.testing.assert_close(block(head.reduce(coarse), middle), expected)


def test_cost_of_the_global_context_is_one_vector():
    module = GlobalContextModule(16)
    for size in (4, 32):
        assert count(module, torch.rand(1, 16, size, size)).multiply_adds == 16 * 16


@pytest.mark.parametrize('multi_grid', [None, (4, 8, 16)])
def test_encoder_of_the_paper(multi_grid):
    encoder = ResNetV1c(
        depth=50,
        base_channels=8,
        stem_channels=8,
        strides=(1, 2, 2, 1),
        dilations=(1, 1, 1, 2),
        multi_grid=multi_grid,
        norm_cfg=BN,
    )
    head = AdaptiveContextHead(**dict(SMALL, in_channels=(32, 64, 256)))
    stages = encoder(torch.randn(1, 3, 97, 65))
    assert [stage.shape[2:] for stage in stages] == [(25, 17), (13, 9), (7, 5), (7, 5)]
    assert head(stages).shape == (1, 5, 25, 17)
    labels = torch.randint(0, 5, (1, 97, 65))
    losses = head.loss(stages, data_samples(labels), ConfigDict())
    losses['loss_ce'].backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in encoder.parameters())


def test_online_hard_example_mining():
    sampler = dict(type='OHEMPixelSampler', thresh=0.7, min_kept=10)
    head = AdaptiveContextHead(**SMALL, sampler=sampler)
    labels = torch.randint(0, 5, (2, 64, 56))
    losses = head.loss(features(), data_samples(labels), ConfigDict())
    assert torch.isfinite(losses['loss_ce'])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            dict(in_channels=(8, 12), in_index=(1, 3)),
            r'in_channels must have as many entries as block_channels=\(10, 8, 6\), got \(8, 12\)',
        ),
        (dict(block_channels=()), r'block_channels must be a non-empty list .*got \(\)'),
        (dict(block_channels=6), 'block_channels must be a non-empty list .*got 6'),
        (dict(channels=8), r'channels must be the last of block_channels=\(10, 8, 6\), got 8'),
        (dict(delta=0), 'delta must be a finite number > 0.0, got 0'),
        (dict(delta='5'), "delta must be a finite number > 0.0, got '5'"),
        (dict(num_local_fusions=0), 'num_local_fusions must be an integer >= 1, got 0'),
        (dict(local_channels=0), 'local_channels must be an integer >= 1, got 0'),
        (dict(local_channels=(4, 0)), r'local_channels must be .* >= 1, got \(4, 0\)'),
        (dict(local_channels=(4,)), r'local_channels must have one entry less than .*got \(4,\)'),
        (
            dict(input_transform='resize_concat'),
            "input_transform must be 'multiple_select', .*got 'resize_concat'",
        ),
        (dict(input_transform=None), 'in_channels must be an integer >= 1'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message) as error:
        AdaptiveContextHead(**dict(SMALL, **arguments))
    assert '\n' not in str(error.value)

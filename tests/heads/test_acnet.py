"""ACNet's modules against the paper's equations, and the head against its modules."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmseg_ctx.heads import AdaptiveContextHead
from mmseg_ctx.heads.acnet import AdaptiveContextBlock, GlobalContextModule, LocalContextModule
from tests.heads.contract import assert_finite
from tests.helpers import assert_relative
from tests.small_models import functional, randomize

SMALL = dict(
    in_channels=(6, 8, 12),
    in_index=(0, 1, 3),
    channels=6,
    block_channels=(10, 8, 6),
    num_classes=5,
    norm_cfg=dict(type='BN'),
)


def features(batch=2, sizes=((16, 14), (8, 7), (4, 4), (4, 4))):
    """What an encoder of four stages returns; the head does not read the third."""
    return [torch.randn(batch, c, *size) for c, size in zip((6, 8, 3, 12), sizes, strict=True)]


def naive_global_context(x, state, delta):
    """Eq. 1 to 3, a place and channel at a time."""
    batch, channels, height, width = x.shape
    context, gate = np.zeros_like(x), np.zeros((batch, 1, height, width))
    weight, bias = state['project.weight'][:, :, 0, 0], state['project.bias']
    for b in range(batch):
        p = weight @ [x[b, c].sum() / (height * width) for c in range(channels)] + bias
        distance = {
            place: sum((x[b, c][place] - p[c]) ** 2 for c in range(channels)) ** 0.5
            for place in np.ndindex(height, width)
        }
        for place in distance:
            gate[b, 0][place] = np.exp(-(distance[place] - min(distance.values())) / delta)
            for c in range(channels):
                context[b, c][place] = (
                    x[b, c][place] + state['alpha'].item() * gate[b, 0][place] * p[c]
                )
    return context, gate


def naive_local_context(x, local, gate, state, num_fusions):
    """Eq. 4 and 5, ``num_fusions`` times."""
    gate = F.interpolate(gate, local.shape[2:], mode='bilinear')
    for t in range(num_fusions):
        joined = torch.cat([state['beta'] * (1 - gate) * local, x], dim=1)
        conv = (state[f'fusions.{t}.conv.{name}'] for name in ('weight', 'bias'))
        x = F.conv2d(joined, *conv, padding=1).clamp(min=0)
    return x


@pytest.mark.parametrize('delta', [5.0, 0.3])
@pytest.mark.parametrize('shape', [(2, 3, 5, 4), (1, 4, 7, 3), (2, 3, 1, 1)])
def test_global_context_equals_the_equations(shape, delta):
    module = randomize(GlobalContextModule(shape[1], delta)).double()
    x = torch.randn(shape, dtype=torch.float64)
    state = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    expected = naive_global_context(x.numpy(), state, delta)
    with torch.no_grad():
        context, gate = module(x)
    assert_relative(context, expected[0], 1e-12)
    assert_relative(gate, expected[1], 1e-12)
    assert gate.min() > 0
    assert torch.equal(gate.amax((1, 2, 3)), torch.ones(shape[0], dtype=torch.float64))


def test_block_is_global_context_upsampling_local_context():
    block = randomize(AdaptiveContextBlock(4, 6, 3, 2)).double().eval()
    x, feature = torch.randn(2, 4, 3, 3).double(), torch.randn(2, 6, 7, 5).double()
    state = block.state_dict()
    with torch.no_grad():
        context, gate = block.global_context(x)
        context = F.interpolate(context, (7, 5), mode='bilinear')
        reduce = state['reduce.conv.weight'], state['reduce.conv.bias']
        local = F.conv2d(feature, *reduce, padding=1).clamp(min=0)
        part = {name.removeprefix('local_context.'): value for name, value in state.items()}
        expected = naive_local_context(context, local, gate, part, num_fusions=3)
        assert_relative(block(x, feature), expected, 1e-12)


def test_gradients():
    """Of the block, of which the global context is a part."""
    block = AdaptiveContextBlock(2, 3, 2, 2, num_fusions=2, act_cfg=dict(type='Tanh'))
    inputs = torch.randn(1, 2, 2, 2), torch.randn(1, 3, 3, 4)
    assert torch.autograd.gradcheck(*functional(randomize(block), *inputs))


def test_gradients_are_finite_where_distances_vanish():
    module = GlobalContextModule(3)
    # p is a constant that two of the places have exactly.
    module.project.weight.data.zero_()
    x = torch.randn(2, 3, 4, 4)
    x[:, :, 1, 2] = x[:, :, 3, 0] = module.project.bias.data
    x.requires_grad_()
    context, gate = module(x)
    (context.square().sum() + gate.square().sum()).backward()
    assert_finite({}, dict(x=x.grad) | {n: p.grad for n, p in module.named_parameters()})
    assert x.grad.abs().sum() > 0
    assert (gate[:, 0, [1, 3], [2, 0]] == 1).all()


@pytest.mark.parametrize('last', [True, False])
@pytest.mark.parametrize('stages', [1, 2, 3])
def test_modules_of_the_papers_tables(stages, last):
    """Tables 2 and 3: a global and a local module for each finer stage; one global module last."""
    widths = {name: SMALL[name][-stages:] for name in ('in_channels', 'in_index')}
    widths.update(channels=None, block_channels=SMALL['block_channels'][:stages])
    head = AdaptiveContextHead(**{**SMALL, **widths}, num_local_fusions=2, last_global_context=last)
    counts = [
        sum(isinstance(module, kind) for module in head.modules())
        for kind in (GlobalContextModule, LocalContextModule)
    ]
    assert counts == [stages - 1 + last, stages - 1]
    assert all(len(block.local_context.fusions) == 2 for block in head.blocks)
    assert head.channels == (10, 8, 6)[stages - 1]
    assert head(features()).shape[2:] == ((4, 4), (8, 7), (16, 14))[stages - 1]


@pytest.mark.parametrize('align_corners', [False, True])
@torch.no_grad()
def test_head_equals_its_blocks(align_corners):
    arguments = dict(delta=2.0, local_channels=(3, 5), align_corners=align_corners)
    head = randomize(AdaptiveContextHead(**SMALL, **arguments)).eval()
    fine, middle, _, coarse = inputs = features()
    x = head.reduce(coarse)
    for block, feature in zip(head.blocks, (middle, fine), strict=True):
        up = [
            F.interpolate(each, feature.shape[2:], mode='bilinear', align_corners=align_corners)
            for each in block.global_context(x)
        ]
        x = block.local_context(up[0], block.reduce(feature), up[1])
    x, _ = head.global_context(x)
    torch.testing.assert_close(head(inputs), head.conv_seg(x))
    assert [block.reduce.out_channels for block in head.blocks] == [3, 5]
    assert all(m.delta == 2.0 for m in head.modules() if isinstance(m, GlobalContextModule))

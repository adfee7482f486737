"""Counts against sums made by hand."""

import pytest
import torch
from torch import nn

from mmseg_ctx.analysis.complexity import Complexity, count
from mmseg_ctx.ops import dynamic_depthwise_conv2d
from mmseg_ctx.utils.models import build


class _DynamicDepthwise(nn.Module):
    """Kernels made from the input, as several heads have them."""

    def __init__(self):
        super().__init__()
        self.make = nn.Conv2d(6, 6, 1, bias=False)

    def forward(self, x):
        kernels = self.make(nn.functional.adaptive_avg_pool2d(x, 3))
        return dynamic_depthwise_conv2d(x, kernels, dilation=2)


class _Attention(nn.Module):
    def forward(self, x):
        return (x @ x.mT).softmax(-1) @ x


@pytest.mark.parametrize('place', ['meta', 'cpu'])
def test_dynamic_depthwise_convolution_is_counted(place):
    module = _DynamicDepthwise().to(place)
    make_kernels = 2 * 6 * 6 * (3 * 3)  # images, channels out and in, grid of regions
    convolve = 2 * 6 * (5 * 7) * (3 * 3)  # images, channels, positions, taps
    cost = count(module, torch.rand(2, 6, 5, 7, device=place))
    assert cost == Complexity(36, make_kernels + convolve)


def test_matrix_products_are_counted():
    cost = count(_Attention(), torch.rand(3, 10, 4, device='meta'))
    assert cost == Complexity(0, 3 * 2 * 10 * 10 * 4)


def test_submodules_can_be_left_out():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Sequential(nn.Conv2d(8, 4, 1)))
    x = torch.rand(1, 3, 6, 6)
    first = Complexity(3 * 8 * 9 + 8, 3 * 8 * 9 * 36)
    second = Complexity(8 * 4 + 4, 8 * 4 * 36)
    assert count(model, x) == Complexity(*map(sum, zip(first, second, strict=True)))
    assert count(model, x, without=['1']) == first
    assert count(model, x, without=['0', '1.0']) == (0, 0)
    with pytest.raises(AttributeError, match='absent'):
        count(model, x, without=['absent'])


def test_mode_is_left_as_it_was():
    for training in (True, False):
        module = nn.Dropout().train(training)
        count(module, torch.rand(1, 2))
        assert module.training is training


def test_build_on_meta_takes_no_memory():
    config = dict(type='SwinTransformer', embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))
    model = build(config)
    assert {parameter.device.type for parameter in model.parameters()} == {'meta'}
    assert count(model, torch.empty(1, 3, 64, 64, device='meta')).multiply_adds > 0

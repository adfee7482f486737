import itertools

import numpy as np
import pytest
import torch

from mmseg_ctx.ops import spatially_varying_weights
from tests.helpers import assert_relative


def naive_weights(x, kernels, dilations):
    """Eq. 2 as loops over images, channels, places and taps, of arrays in float64."""
    height, width = x.shape[2:]
    size = kernels.shape[-1]
    weights = np.zeros_like(x)
    for b, c, i, j in itertools.product(*map(range, x.shape)):
        for dilation in dilations:
            logit = 0.0
            for u, v in itertools.product(range(size), repeat=2):
                row = i + dilation * (u - size // 2)
                column = j + dilation * (v - size // 2)
                if 0 <= row < height and 0 <= column < width:
                    logit += kernels[b, c, u, v] * x[b, c, row, column]
            weights[b, c, i, j] += np.exp(-np.logaddexp(0, -logit))
    return weights


@pytest.mark.parametrize('dilations', [(1, 2, 3), (2,)])
@pytest.mark.parametrize('size', [3, 5])
@pytest.mark.parametrize('shape', [(2, 3, 7, 6), (1, 3, 1, 1)])
def test_equals_loops(shape, size, dilations, device):
    x, kernels = torch.randn(shape), torch.randn(*shape[:2], size, size)
    actual = spatially_varying_weights(x.to(device), kernels.to(device), dilations)
    assert_relative(
        actual, naive_weights(x.double().numpy(), kernels.double().numpy(), dilations), 1e-6
    )


@pytest.mark.parametrize('shape', [(2, 2, 4, 3), (1, 2, 2, 2)])
def test_gradients_of_first_and_second_order(shape):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    kernels = torch.randn(*shape[:2], 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(spatially_varying_weights, (x, kernels))
    assert torch.autograd.gradgradcheck(spatially_varying_weights, (x, kernels))


@pytest.mark.parametrize('size', [2, 3])
def test_gradients_on_a_device(size, device):
    leaves = [torch.randn(2, 3, *side).to(device) for side in ((40, 33), (size, size))]
    grad = torch.randn(2, 3, 40, 33).to(device)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        inputs = [each.to(dtype).requires_grad_() for each in leaves]
        weights = spatially_varying_weights(*inputs)
        gradients.append(torch.autograd.grad(weights, inputs, grad.to(dtype)))
    for single, double in zip(*gradients, strict=True):
        assert_relative(single, double, 1e-5)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_large_features_under_autocast(dtype):
    # Taps of both signs nearly cancel, so a logit rounded to half precision would be off by far
    # more than the width of a sigmoid.
    x = (1e4 * torch.rand(2, 3, 6, 5)).to(dtype).requires_grad_()
    kernels = torch.randn(2, 3, 3, 3)
    kernels = (kernels - kernels.mean((2, 3), keepdim=True)) / 1e3
    with torch.autocast('cpu', dtype):
        weights = spatially_varying_weights(x, kernels)
    assert weights.dtype == dtype
    expected = naive_weights(x.detach().double().numpy(), kernels.double().numpy(), (1, 2, 3))
    assert ((expected > 0.1) & (expected < 2.9)).mean() > 0.1
    # The result is rounded once.
    assert_relative(weights.detach(), expected, torch.finfo(dtype).eps)
    weights.sum().backward()
    assert torch.isfinite(x.grad).all()


def test_kernels_of_a_wrong_shape():
    with pytest.raises(ValueError, match=r'kernels must be \[B, C, k, k\]'):
        spatially_varying_weights(torch.rand(2, 4, 5, 5), torch.rand(1, 4, 3, 3))

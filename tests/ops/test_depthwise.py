import itertools

import pytest
import torch

from mmseg_ctx.ops import dynamic_depthwise_conv2d


def naive(x, kernels, dilation):
    """Each output pixel is the sum over the kernel's taps, written as loops, in float64."""
    batch, channels, height, width = x.shape
    size = kernels.size(-1)
    before = dilation * (size - 1) - dilation * (size - 1) // 2
    out = torch.zeros_like(x, dtype=torch.float64)
    places = itertools.product(*map(range, (batch, channels, height, width, size, size)))
    for b, c, i, j, u, v in places:
        row, column = i + u * dilation - before, j + v * dilation - before
        if 0 <= row < height and 0 <= column < width:
            out[b, c, i, j] += x[b, c, row, column].double() * kernels[b, c, u, v].double()
    return out


@pytest.mark.parametrize('dilation', [1, 3])
@pytest.mark.parametrize('size', [1, 2, 5])
def test_equals_loops(size, dilation, device):
    x, kernels = torch.randn(2, 3, 5, 4), torch.randn(2, 3, size, size)
    expected = naive(x, kernels, dilation)
    actual = dynamic_depthwise_conv2d(x.to(device), kernels.to(device), dilation)
    torch.testing.assert_close(actual.double().cpu(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(('size', 'dilation'), [(1, 1), (2, 1), (3, 2), (4, 1)])
def test_gradients_of_first_and_second_order(size, dilation):
    x = torch.randn(2, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    kernels = torch.randn(2, 2, size, size, dtype=torch.float64, requires_grad=True)

    def operation(x, kernels):
        return dynamic_depthwise_conv2d(x, kernels, dilation)

    assert torch.autograd.gradcheck(operation, (x, kernels))
    assert torch.autograd.gradgradcheck(operation, (x, kernels))


@pytest.mark.parametrize('shape', [(2, 3, 3), (1, 4, 3, 3), (2, 3, 3, 3), (2, 4, 3, 5)])
def test_kernels_of_a_wrong_shape(shape):
    with pytest.raises(ValueError, match=r'kernels must be \[B, C, k, k\].*got \('):
        dynamic_depthwise_conv2d(torch.rand(2, 4, 5, 5), torch.rand(shape))

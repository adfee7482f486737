"""Resizable logits, beside the tensor for which they stand."""

import copy
import operator
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmseg_ctx.ops import ResizableLogits, WindowedLogits, resizable_logits

SIZE = (33, 40)


@pytest.fixture(params=[False, True], ids=['corners not aligned', 'corners aligned'])
def pair(request):
    """Return resizable logits and the tensor for which they stand, with one leaf."""
    small = torch.randn(2, 5, 8, 9, dtype=torch.float64, requires_grad=True)
    options = dict(size=SIZE, mode='bilinear', align_corners=request.param)
    return F.interpolate(ResizableLogits(small), **options), F.interpolate(small, **options)


def _seen_first(logits, mode):
    with mode:
        largest = logits.max()
    return logits.softmax(1).square() * logits * float(largest)


def _weighted_by_a_teacher(logits):
    with torch.no_grad():
        certain = logits.softmax(1)
    return logits * certain


INDEX = torch.randint(5, (2, 1, *SIZE))
# Tile by tile.
KNOWN = {
    'argmax': lambda x: x.argmax(dim=1),
    'torch.argmax': lambda x: torch.argmax(x, 1, keepdim=True),
    'max': lambda x: x.max(dim=1),
    'torch.max': lambda x: tuple(torch.max(x, 1, keepdim=True)),
    'topk': lambda x: tuple(x.topk(1, dim=1)),
    'losses': lambda x: F.cross_entropy(x, INDEX[:, 0], reduction='none'),
    'mean loss': lambda x: F.cross_entropy(
        input=x, target=INDEX[:, 0], weight=torch.arange(5.0).double(), ignore_index=3
    ),
    'summed loss': lambda x: F.cross_entropy(x, INDEX[:, 0], reduction='sum'),
    'probability': lambda x: F.softmax(x, dim=1).gather(1, INDEX),
    'shape': lambda x: torch.zeros(x.shape).sum() + x.size(1) + len(x) + x.dim() + x.ndim,
    'zeros': lambda x: x.new_zeros(size=(2, 3)),
}
# Through the tensor.
OTHERS = {
    'first two': lambda x: x.topk(2, dim=1),
    'largest': lambda x: x.max(),
    'over rows': lambda x: x.argmax(2),
    'class probabilities': lambda x: x.softmax(1).sum(0),
    'soft target': lambda x: F.cross_entropy(x, torch.ones(2, 5, *SIZE).double() / 5),
    'smoothed': lambda x: F.cross_entropy(x, INDEX[:, 0], label_smoothing=0.1),
    'a method': lambda x: x.sigmoid(),
    'operators': lambda x: 2 * x - x / 3 + (-x) ** 2,
    'comparison': lambda x: (x > 0) & (x == x),
    'index': lambda x: x[:, 1:3, ..., 4],
    'concatenation': lambda x: torch.cat([x, x], dim=1),
    'again': lambda x: F.interpolate(x, (50, 51), mode='bilinear'),
    'nearest': lambda x: F.interpolate(x, scale_factor=2),
    'convolution': lambda x: F.conv2d(x, torch.ones(1, 5, 3, 3).double()),
    'iteration': lambda x: torch.stack([image.sum() for image in x]),
    'first without gradients': lambda x: _seen_first(x, torch.no_grad()),
    'first in inference': lambda x: _seen_first(x, torch.inference_mode()),
    'constant probabilities': _weighted_by_a_teacher,
    'probabilities of a type': lambda x: torch.softmax(x, 1, torch.float32).double(),
    'remainder': lambda x: x % 2,
    'an array': lambda x: torch.from_numpy(np.asarray(x.detach())),
}


@pytest.mark.parametrize('name', KNOWN | OTHERS)
def test_values_and_gradients(pair, name, monkeypatch):
    function = (KNOWN | OTHERS)[name]
    lines = []
    monkeypatch.setattr(resizable_logits, '_LOGGED', set())
    monkeypatch.setattr(resizable_logits, 'print_log', lambda line, **_: lines.append(line))
    results = []
    for logits in pair:
        values = function(logits)
        values = tuple(values) if isinstance(values, (list, tuple)) else (values,)
        results.append(values)
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-9)
    assert len(lines) == (name in OTHERS)
    if results[1][0].requires_grad:
        leaf = pair[1].grad_fn.next_functions[0][0].variable
        gradients = [torch.autograd.grad(values[0].sin().sum(), leaf) for values in results]
        torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-8, atol=1e-8)


def test_changes_in_place_stay(pair):
    for logits in pair:
        logits = logits.detach()
        logits[:, 3, :9] = 100
        logits.mul_(2)
        assert (logits.argmax(1)[:, :9] == 3).all()
        probabilities = logits.softmax(1)
        same = logits
        same -= 1e4
        probabilities[:, 0] = 2
        assert logits.max() < 0
        assert (probabilities.gather(1, torch.zeros_like(INDEX)) == 2).all()


def test_logits_that_are_not_resized_are_themselves():
    small = torch.randn(2, 5, 8, 9)
    assert ResizableLogits(small).full() is small


def test_copies(pair):
    logits, full = pair
    logits = logits.detach()
    for other in (copy.deepcopy(logits), pickle.loads(pickle.dumps(logits))):
        torch.testing.assert_close(other.full(), full.detach())


@pytest.mark.parametrize('small', [(4, 5), (16, 20)], ids=['windows', 'mean'])
def test_windows(small):
    """A grid of 2 × 3 windows, kept as windows or, where these are larger, as their mean."""
    starts, size = ((0, 6), (0, 5, 12)), (22, 32)
    total, count = torch.zeros(1, 5, *size), torch.zeros(size)
    logits = None
    for top in starts[0]:
        for left in starts[1]:
            window = ResizableLogits(torch.randn(1, 5, *small), (16, 20))
            logits = logits or WindowedLogits(window, starts, size)
            logits.add(window, top, left)
            full = F.interpolate(window.small, (16, 20), mode='bilinear')
            total[:, :, top : top + 16, left : left + 20] += full
            count[top : top + 16, left : left + 20] += 1
    assert (logits.mean is None) == (small == (4, 5))
    torch.testing.assert_close(operator.mul(logits, 1), total / count)
    assert logits.shape == total.shape


def test_a_window_is_added_without_writing_the_sum_twice(monkeypatch):
    window = ResizableLogits(torch.randn(1, 5, 16, 20))
    logits = WindowedLogits(window, ((0, 6), (0,)), (22, 20))
    monkeypatch.setattr(torch.Tensor, '__setitem__', None)  # += would copy the slice onto itself
    logits.add(window, 0, 0)
    assert torch.equal(logits.mean[:, :, :6], window.small[:, :, :6])

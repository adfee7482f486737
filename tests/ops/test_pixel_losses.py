"""Losses of pixels, beside PyTorch's operations at full size."""

import sys
import threading
from functools import partial
from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import grad, jvp, vmap

from mmseg_ctx.analysis.benchmark import peak_memory
from mmseg_ctx.ops import ResizableLogits, pixel_losses, upsampled_cross_entropy
from mmseg_ctx.ops.kernel_choice import triton_kernels_for
from tests.helpers import Uploads, assert_relative

MODULE = sys.modules[pixel_losses.__module__]  # the package has a function of its name
SIDE = st.integers(1, 23)


def example(batch=2, classes=5, small=(6, 7), size=(20, 21), dtype=torch.float64):
    """Return logits, and labels of which some are ignored."""
    logits = torch.randn(batch, classes, *small, dtype=dtype)
    label = torch.randint(classes, (batch, *size))
    label.view(-1)[:: max(label.numel() // 3, 1)] = 255
    return logits, label


def naive(logits, label, align_corners=False, **options):
    """PyTorch's resizing and cross-entropy."""
    full = F.interpolate(logits, label.shape[1:], mode='bilinear', align_corners=align_corners)
    return F.cross_entropy(full, label, ignore_index=255, **options)


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(0, 3),
    classes=st.integers(1, 150),
    small=st.tuples(SIDE, SIDE),
    size=st.tuples(st.integers(1, 150), SIDE),
    align_corners=st.booleans(),
    channels_last=st.booleans(),
)
def test_losses_and_gradients(batch, classes, small, size, align_corners, channels_last):
    logits, label = example(batch, classes, small, size)
    if channels_last:
        logits = logits.contiguous(memory_format=torch.channels_last)
    results = []
    for function in (naive, lambda *args, **_: pixel_losses(*args)[0]):
        logits = logits.detach().requires_grad_()
        options = dict(reduction='none') if function is naive else {}
        losses = function(logits, label, align_corners, **options)
        weight = torch.arange(losses.numel()).view_as(losses) / 100
        results.append((losses, *torch.autograd.grad((losses * weight).sum(), logits)))
    torch.testing.assert_close(results[1], results[0], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize('reduction', ['mean', 'sum', 'none'])
def test_reductions_with_weights(reduction):
    logits, label = example()
    class_weight = torch.rand(5, dtype=torch.float64, requires_grad=True)
    pixel_weight = torch.rand(label.shape, dtype=torch.float64, requires_grad=True)
    leaves = [logits.requires_grad_(), class_weight, pixel_weight]
    weights = class_weight[label.clamp(max=4)] * (label < 255)
    expected = naive(logits, label, reduction='none') * weights * pixel_weight
    if reduction == 'mean':
        expected = expected.sum() / weights.sum()
    expected = expected.sum() if reduction != 'none' else expected
    actual, accuracy = upsampled_cross_entropy(
        logits,
        label,
        class_weight,
        pixel_weight=pixel_weight,
        reduction=reduction,
        with_accuracy=True,
    )
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)
    gradients = [torch.autograd.grad(each.sum(), leaves) for each in (actual, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-6)
    full = F.interpolate(logits, label.shape[1:], mode='bilinear')
    right = (full.argmax(1) == label)[label < 255].double().mean()
    assert_relative(accuracy, 100 * right[None], 1e-6)


def test_gradcheck():
    logits, label = example(1, 3, (2, 3), (5, 4))
    function = lambda x: pixel_losses(x, label)[0]  # noqa: E731
    assert torch.autograd.gradcheck(function, logits.requires_grad_(), check_forward_ad=True)


def test_function_transforms():
    logits, label = example()
    others = torch.randn(3, *logits.shape, dtype=logits.dtype)
    mine = lambda x: upsampled_cross_entropy(x, label, avg_non_ignore=True)[0]  # noqa: E731
    theirs = lambda x: naive(x, label)  # noqa: E731
    for transformed in (
        lambda f: grad(f)(logits),
        lambda f: vmap(f)(others),
        lambda f: vmap(grad(f))(others),
        lambda f: jvp(f, (logits,), (others[0],)),
    ):
        torch.testing.assert_close(transformed(mine), transformed(theirs), rtol=1e-6, atol=1e-6)


def test_second_derivative():
    logits, label = example()
    results = []
    for losses_of in (
        lambda x: pixel_losses(x, label)[0],
        partial(naive, label=label, reduction='none'),
    ):
        leaf = logits.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(losses_of(leaf).square().sum(), leaf, create_graph=True)
        results.append(torch.autograd.grad(gradient.square().sum(), leaf)[0])
    torch.testing.assert_close(*results)


def test_minus_infinity_leaves_a_class_out():
    logits, label = example(small=(4, 4), size=(16, 16))
    label = label.masked_fill(label == 1, 0)
    finite = logits.index_fill(1, torch.tensor(1), -1e30).requires_grad_()
    logits = logits.index_fill(1, torch.tensor(1), -torch.inf).requires_grad_()
    losses = pixel_losses(logits, label)[0], naive(finite, label, reduction='none')
    torch.testing.assert_close(*losses)
    gradients = (
        torch.autograd.grad(*each)[0]
        for each in zip([each.sum() for each in losses], (logits, finite), strict=True)
    )
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize('value', [torch.inf, torch.nan])
def test_what_skips_a_step_of_training_stays(value):
    logits, label = example()
    logits[0, 3, 4, 4] = value
    loss, _ = upsampled_cross_entropy(logits.requires_grad_(), label)
    assert not loss.isfinite()
    assert not torch.autograd.grad(loss, logits)[0].isfinite().all()


@pytest.mark.parametrize(
    ('changes', 'error', 'words'),
    [
        (dict(label=torch.full((2, 8, 8), 5)), ValueError, r'\[0, 5\).*got 5'),
        (dict(label=torch.zeros(2, 8, 8)), TypeError, 'integers, got torch.float32'),
        (dict(label=torch.zeros(3, 8, 8).long()), ValueError, r'\[3, 8, 8\]'),
        (dict(reduction='bogus'), ValueError, "'mean', 'sum' or 'none', got 'bogus'"),
        (dict(class_weight=[1.0, 2.0]), ValueError, 'each of 5 classes, got 2'),
    ],
)
def test_wrong_values(changes, error, words):
    arguments = dict(logits=torch.randn(2, 5, 4, 4), label=torch.zeros(2, 8, 8).long())
    with pytest.raises(error, match=words):
        upsampled_cross_entropy(**arguments | changes)


def test_labels_of_another_type_and_an_empty_batch():
    logits, label = example()
    expected = upsampled_cross_entropy(logits, label)
    assert upsampled_cross_entropy(logits, label.byte()) == expected
    assert upsampled_cross_entropy(logits[:0], label[:0])[0] == 0
    wide = torch.tensor([[[4464, 70000]]])  # equal in 16 bits
    assert MODULE.compact_label(wide, 5000, ignore_index=70000).tolist() == [[[4464, -1]]]


def test_custom_operations():
    logits, label = example(dtype=torch.float32)
    label = label.masked_fill(label == 255, -1)
    operations = torch.ops.mmseg_ctx
    torch.library.opcheck(operations.pixel_losses.default, (logits, label, False))
    losses, normaliser, _ = operations.pixel_losses(logits, label, False)
    arguments = (torch.ones_like(losses), logits, label, normaliser, False)
    torch.library.opcheck(operations.pixel_losses_backward.default, arguments)


@pytest.mark.parametrize('align_corners', [False, True])
def test_on_a_device(align_corners, device):
    logits, label = (
        each.to(device) for each in example(2, 150, (16, 16), (96, 131), torch.float32)
    )
    logits.requires_grad_()
    losses, best = pixel_losses(logits, label, align_corners)
    full = F.interpolate(logits, label.shape[1:], mode='bilinear', align_corners=align_corners)
    expected = F.cross_entropy(full, label, ignore_index=255, reduction='none')
    assert_relative(losses.detach(), expected.detach(), 1e-5)
    assert (best != full.argmax(1)).float().mean() < 1e-4
    gradients = (torch.autograd.grad(each.mean(), logits)[0] for each in (losses, expected))
    assert_relative(*gradients, 1e-4)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_a_reduced_loss_and_labels_on_a_device(dtype, device):
    sizes = 2, 19, (16, 24), (128, 131)
    logits, label = (each.to(device) for each in example(*sizes, dtype=torch.float32))
    logits, weight = logits.to(dtype).requires_grad_(), torch.rand(19, device=device)
    if device.type == 'cuda' and find_spec('triton'):
        assert triton_kernels_for(logits) is not None  # otherwise the log says why
    full = F.interpolate(logits.double(), label.shape[1:], mode='bilinear')
    expected = F.cross_entropy(full, label, weight.double(), ignore_index=255)
    (gradient,) = torch.autograd.grad(expected, logits)
    results = []
    for _ in range(2):
        loss, share = upsampled_cross_entropy(logits, label, weight, with_accuracy=True)
        results.append((loss.detach(), share, *torch.autograd.grad(loss, logits)))
    assert all(map(torch.equal, *results))  # to the bit
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    assert_relative(results[0][2].double(), gradient.double(), 2 * torch.finfo(dtype).eps + 1e-5)
    best = ResizableLogits(logits, label.shape[1:]).argmax(1)
    assert (best != full.argmax(1)).float().mean() < 1e-3
    right = (best == label)[label != 255].float().mean()
    torch.testing.assert_close(share[0], 100 * right, rtol=0.01, atol=0.01)


@pytest.mark.parametrize('tile', [(1, 1), (61, 67), (100, 5)])
@pytest.mark.parametrize('threads', [1, 3])
def test_neither_tiles_nor_threads_matter(tile, threads, monkeypatch):
    logits, label = example(small=(8, 8), size=(61, 67))
    logits.requires_grad_()
    losses, best = pixel_losses(logits, label)
    gradient = torch.autograd.grad(losses.sum(), logits)[0]
    monkeypatch.setattr(MODULE, 'tile_size', lambda *_: tile)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        actual, actual_best = pixel_losses(logits, label)
        first, second = (
            torch.autograd.grad(actual.sum(), logits, retain_graph=True)[0] for _ in '12'
        )
        assert torch.get_num_threads() == threads
        news = []
        thread = threading.Thread(target=lambda: news.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert news == [threads]  # as before, where a thread starts later
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(actual, losses)
    assert torch.equal(actual_best, best)
    torch.testing.assert_close(first, gradient)
    assert torch.equal(first, second)


def test_fast_matrix_products_are_not_used(monkeypatch):
    logits, label = example(1, 3, (5, 6), (11, 12), torch.float32)
    places = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
    multiply, seen = torch.Tensor.__matmul__, set()

    def recorded(*factors):
        seen.update(place.fp32_precision for place in places)
        return multiply(*factors)

    monkeypatch.setattr(torch.Tensor, '__matmul__', recorded)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision('medium')  # TF32 on a GPU, bfloat16 on a CPU
    try:
        pixel_losses(logits.requires_grad_(), label)[0].sum().backward()
        assert seen == {'ieee'}
        seen.clear()
        ResizableLogits(logits.detach(), label.shape[1:]).argmax(1)
        assert seen == {'ieee'}
        assert torch.get_float32_matmul_precision() == 'medium'
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    logits, label = example(dtype=dtype)
    logits.requires_grad_()
    with torch.autocast('cpu', dtype):
        loss, _ = upsampled_cross_entropy(logits, label)
    loss.backward()
    expected = naive(logits.double(), label, reduction='sum') / label.numel()
    assert loss.dtype == torch.float32
    assert logits.grad.dtype == dtype
    assert_relative(loss.detach(), expected.detach(), 1e-6)


def test_holds_no_full_size_tensor():
    logits, label = example(2, 64, (32, 32), (256, 256), torch.float32)
    logits.requires_grad_()
    full = 4 * 2 * 64 * 256 * 256

    def steps(loss):
        def step():
            loss(logits, label).backward()
            logits.grad = None

        return step

    assert peak_memory(steps(naive)) > 2 * full
    assert peak_memory(steps(lambda *args: pixel_losses(*args)[0].mean())) < full / 4


def test_waits_for_no_device_and_copies_nothing_to_it():
    # What the operations do inside is hidden from a graph, so they are called here undecorated.
    logits = torch.empty(2, 5, 8, 8, device='meta')  # a device of which no value can be read
    label = torch.empty(2, 61, 67, dtype=torch.long, device='meta')
    with Uploads() as uploads:
        loss, share = upsampled_cross_entropy(
            logits, label, label.new_empty(5, dtype=torch.float), with_accuracy=True
        )
        losses, normaliser, best = MODULE._forward._init_fn(logits, label, False)
        gradient = MODULE._backward._init_fn(losses, logits, label, normaliser, False)
    assert uploads.found == []
    assert (loss.shape, share.shape) == ((), (1,))
    assert losses.shape == normaliser.shape == best.shape == label.shape
    assert gradient.shape == logits.shape

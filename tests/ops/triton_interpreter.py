"""Tests of the kernels in Triton's interpreter, which ``TRITON_INTERPRET=1`` turns on.

``test_triton.py`` runs them in a process of its own; ``EXAMPLES`` says how many cases are drawn.
"""

import os
import sys
from contextlib import ExitStack, nullcontext
from unittest import mock

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, assume, example, given, settings
from mmseg.registry import MODELS
from torch.utils._python_dispatch import TorchDispatchMode
from triton.runtime.interpreter import GridExecutor, InterpreterBuilder

from mmseg_ctx.losses.head_losses import losses_by_feat
from mmseg_ctx.ops import (
    Interpolation,
    ResizedLogits,
    averaged_labels,
    kernel_choice,
    pixel_losses,
    resized_logits,
    spatially_varying_weights,
    triton_kernels,
    upsampled_cross_entropy,
)
from tests.helpers import data_samples

MODULE = sys.modules[pixel_losses.__module__]  # the package has a function of its name
WEIGHTS = sys.modules[spatially_varying_weights.__module__]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SIDE = st.integers(1, 6)
drawn = settings(
    max_examples=int(os.environ.get('EXAMPLES', 3)),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(autouse=True, scope='module')
def _interpreter():
    assert os.environ.get('TRITON_INTERPRET') == '1'


def strided(logits, layout):
    """Return the logits in another order in memory, or as a part of a larger tensor."""
    if layout == 'channels_last':
        return logits.to(memory_format=torch.channels_last)
    if layout == 'part':
        return F.pad(logits, (1, 2, 2, 1))[:, :, 2:-1, 1:-2]
    return logits


@drawn
@given(
    size=st.tuples(st.integers(1, 2), st.sampled_from([1, 2, 5, 17, 33, 131]), SIDE, SIDE),
    target=st.tuples(st.integers(1, 13), st.integers(1, 13)),
    align_corners=st.booleans(),
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(['contiguous', 'channels_last', 'part']),
    value=st.sampled_from([None, -torch.inf, torch.finfo(torch.float16).min, 'tie']),
    expanded=st.booleans(),
    integer=st.sampled_from([torch.int16, torch.int64]),
    seed=st.integers(0, 99),
)
@example(
    # A gap between cells without a pixel lies beside minus infinity.
    size=(1, 2, 1, 4),
    target=(1, 1),
    align_corners=False,
    dtype=torch.float32,
    layout='contiguous',
    value=-torch.inf,
    expanded=False,
    integer=torch.int16,
    seed=0,
)
def test_losses_and_gradients(
    size, target, align_corners, dtype, layout, value, expanded, integer, seed
):
    # A single class that is minus infinity has no softmax: PyTorch's cross-entropy is NaN there.
    assume(size[1] > 1 or value in (None, 'tie'))
    torch.manual_seed(seed)
    logits = (3 * torch.randn(size)).to(dtype)
    if value == 'tie':
        logits[:, -1] = logits[:, 0]
    elif value is not None:
        logits[0, -1, size[2] // 2, size[3] // 2] = value
    logits = strided(logits, layout)
    label = torch.randint(-1, size[1], (size[0], *target), dtype=integer)
    if layout == 'part':
        label = label.mT.contiguous().mT
    grad = torch.randn(label.shape)
    grad = torch.tensor(0.5).expand(label.shape) if expanded else grad
    losses, normaliser, best = triton_kernels.pixel_losses(logits, label, align_corners)
    expected = torch.ops.mmseg_ctx.pixel_losses(logits.float(), label, align_corners)
    close = dict(rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(losses, expected[0], **close)
    torch.testing.assert_close(normaliser, expected[1].masked_fill(label < 0, torch.inf), **close)
    full = F.interpolate(
        logits.float().clamp(min=-1e30), target, mode='bilinear', align_corners=align_corners
    )
    chosen = full.gather(1, best[:, None].long())[:, 0]
    torch.testing.assert_close(chosen, full.amax(1), **close)
    assert value != 'tie' or size[1] == 1 or (best != size[1] - 1).all()
    backward = grad, logits, label, normaliser, align_corners
    gradient = triton_kernels.pixel_losses_backward(*backward)
    reference = torch.ops.mmseg_ctx.pixel_losses_backward(
        grad, logits.float(), label, expected[1], align_corners
    )
    assert gradient.dtype == dtype
    tolerance = max(torch.finfo(dtype).eps, 1e-5)
    torch.testing.assert_close(gradient.float(), reference, rtol=tolerance, atol=tolerance)
    assert torch.equal(gradient, triton_kernels.pixel_losses_backward(*backward))


def kernels_everywhere():
    """Return a context manager in which losses and labels use the kernels."""
    use = dict(return_value=triton_kernels)
    stack = ExitStack()
    stack.enter_context(mock.patch.object(MODULE, 'triton_kernels_for', **use))
    stack.enter_context(mock.patch.object(resized_logits, 'triton_kernels_for', **use))
    return stack


@drawn
@given(
    size=st.tuples(st.integers(1, 2), st.sampled_from([1, 2, 5, 19, 33]), SIDE, SIDE),
    target=st.tuples(st.integers(1, 13), st.integers(1, 13)),
    align_corners=st.booleans(),
    dtype=st.sampled_from(DTYPES),
    integer=st.sampled_from([torch.uint8, torch.int16, torch.int32, torch.int64]),
    ignore_index=st.sampled_from([255, 0, -100, None]),
    weighted=st.booleans(),
    avg_non_ignore=st.booleans(),
    reduction=st.sampled_from(['mean', 'sum']),
    seed=st.integers(0, 99),
)
def test_reduced_losses_and_their_gradient(
    size, target, align_corners, dtype, integer, ignore_index, weighted, avg_non_ignore,
    reduction, seed,
):  # fmt: skip
    torch.manual_seed(seed)
    logits = (3 * torch.randn(size)).to(dtype)
    label = torch.randint(size[1], (size[0], *target), dtype=integer)
    if ignore_index is not None and torch.iinfo(integer).min <= ignore_index:
        label[..., ::3] = ignore_index
    weight = torch.rand(size[1]) if weighted else None
    options = dict(reduction=reduction, with_accuracy=True, loss_weight=0.4)
    arguments = weight, ignore_index, avg_non_ignore, align_corners
    results = []
    for copy, context in ((logits.float(), nullcontext()), (logits, kernels_everywhere())):
        copy = copy.clone().requires_grad_()
        with context:
            loss, share = upsampled_cross_entropy(copy, label, *arguments, **options)
            (3 * loss).backward()
        results.append((loss, share, copy.grad.float()))
    assert copy.grad.dtype == dtype
    torch.testing.assert_close(results[1][:2], results[0][:2], rtol=1e-5, atol=1e-5)
    tolerance = max(torch.finfo(dtype).eps, 1e-5)
    torch.testing.assert_close(results[1][2], results[0][2], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize('weight', [None, torch.tensor([1.0, 2.0, 0.5])])
def test_second_derivative_of_a_reduced_loss(weight):
    logits, label = torch.randn(1, 3, 4, 5), torch.randint(0, 3, (1, 9, 7))
    label[:, 2] = 255
    results = []
    for context in (nullcontext(), kernels_everywhere()):
        leaf = logits.clone().requires_grad_()
        with context:
            loss, _ = upsampled_cross_entropy(leaf, label, weight, avg_non_ignore=True)
            (gradient,) = torch.autograd.grad(loss.square(), leaf, create_graph=True)
            results.append(torch.autograd.grad(gradient.square().sum(), leaf)[0])
    torch.testing.assert_close(*results)


@pytest.mark.parametrize('wrong', [5, -1, 2**32])
def test_a_wrong_label_is_reported_without_waiting(wrong):
    label = torch.zeros(1, 9, 11, dtype=torch.long)
    label[0, 8, 10] = wrong
    with kernels_everywhere(), pytest.raises(RuntimeError, match=r'in \[0, 5\).* index 255'):
        upsampled_cross_entropy(torch.randn(1, 5, 3, 4), label)


@pytest.mark.parametrize('value', [torch.inf, torch.nan])
def test_what_skips_a_step_of_training_stays(value):
    logits, label = torch.randn(1, 3, 4, 5), torch.zeros(1, 9, 11, dtype=torch.long)
    logits[0, 2, 1, 2] = value
    losses, normaliser, _ = triton_kernels.pixel_losses(logits, label, False)
    full = F.interpolate(logits, label.shape[1:], mode='bilinear')
    assert torch.equal(normaliser.isfinite(), full.isfinite().all(1))
    gradient = triton_kernels.pixel_losses_backward(
        torch.ones_like(losses), logits, label, normaliser, False
    )
    assert not gradient[0, :, 1, 2].isfinite().all()
    assert gradient[0, :, :, 4].isfinite().all()


def side(cells, sizes, flips, windows):
    """Return maps of a row of windows along one side, and the number of the targets."""
    map_ = Interpolation.identity(cells, torch.zeros(()))
    length, sizes = sizes[0], sizes[1:]
    stride = max(length // 2, 1)
    total = length + stride * (windows - 1)
    coverage = torch.zeros(total)
    starts = range(0, total - length + 1, stride)
    for start in starts:
        coverage[start : start + length] += 1
    placed = [
        map_.resize(length, False).place(start, total).scale(1 / coverage) for start in starts
    ]
    for size in sizes:
        placed = [each.resize(size, False) for each in placed]
    return [each.flip() for each in placed] if flips else placed


@st.composite
def passes_of(draw):
    classes = draw(st.sampled_from([1, 2, 7, 40]))
    dtype, layout = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(['contiguous', 'part']))
    windows = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    image = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    torch.manual_seed(draw(st.integers(0, 99)))
    passes = []
    for _ in range(draw(st.integers(1, 3))):
        cells = draw(st.tuples(SIDE, SIDE))
        grid = [
            [
                strided(torch.randn(1, classes, *cells).to(dtype), layout)[0]
                for _ in range(windows[1])
            ]
            for _ in range(windows[0])
        ]
        sides = [
            side(count, (draw(st.integers(1, 8)), length), draw(st.booleans()), number)
            for count, length, number in zip(cells, image, windows, strict=True)
        ]
        passes.append(ResizedLogits(grid, *sides))
    return passes


@drawn
@given(passes=passes_of())
def test_labels(passes):
    classes = passes[0].shape[0]
    full = torch.stack([each.full() for each in passes])
    if classes == 1:
        scores = full.sigmoid() if len(passes) == 1 else full.sigmoid().sigmoid()
        scores = scores.mean(0)
        scores = torch.cat([scores, 0.6 * torch.ones_like(scores)])
    else:
        scores = full.softmax(2).mean(0)
    best = scores.topk(2, 0).values
    sure = (best[0] - best[1] > 1e-5)[None]
    expected = resized_logits.averaged_labels(passes, 0.6) if len(passes) > 1 else None
    if expected is None:
        expected = resized_logits.predicted_labels(passes[0], 0.6)
    parts = [[getattr(each, name) for each in passes] for name in ('logits', 'rows', 'columns')]
    labels = triton_kernels.label_map(*parts, 0.6)
    assert labels.dtype == expected.dtype
    assert labels.shape == expected.shape
    assert torch.equal(labels[sure], expected[sure])


def test_labels_of_values_that_are_not_finite_and_of_ties():
    logits = torch.randn(5, 4, 4)
    logits[4] = logits[1]
    for index, value in enumerate((torch.inf, -torch.inf, torch.nan, torch.inf)):
        logits[index, index, 1] = value
    sides = [Interpolation.identity(4, logits).resize(11, True)]
    expected = resized_logits.predicted_labels(ResizedLogits([[logits]], sides, sides))
    labels = triton_kernels.label_map([logits], sides, sides)
    assert torch.equal(labels, expected)
    assert (labels != 4).all()


def test_more_logits_a_pixel_than_a_thread_holds_are_left_to_pytorch():
    chain = Interpolation.identity(4, torch.zeros(()))
    for size in (9, 5, 7, 6):
        chain = chain.resize(size, False)
    assert triton_kernels.label_map([torch.randn(2, 4, 4)], [chain], [chain]) is None


@pytest.fixture
def _kernels_for_weights():
    def kernels_for(x, compare):
        return triton_kernels

    with mock.patch.object(WEIGHTS, 'triton_kernels_for', kernels_for):
        yield


@pytest.mark.usefixtures('_kernels_for_weights')
@drawn
@given(
    size=st.tuples(st.integers(1, 2), st.just(1), SIDE, SIDE),
    kernel_size=st.integers(1, 4),
    dilations=st.sampled_from([(1, 2, 3), (1,), (4, 1)]),
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(['contiguous', 'channels_last', 'part']),
    pixels=st.sampled_from([16, 512]),
    seed=st.integers(0, 99),
)
def test_spatial_weights(size, kernel_size, dilations, dtype, layout, pixels, seed):
    torch.manual_seed(seed)
    x = strided(torch.randn(size).to(dtype), layout)
    kernels, grad = torch.randn(*size[:2], kernel_size, kernel_size), torch.randn(size).to(dtype)
    exact, exact_kernels = (each.double().requires_grad_() for each in (x, kernels))
    expected = spatially_varying_weights_of_pytorch(exact, exact_kernels, dilations)
    x, kernels = x.requires_grad_(), kernels.requires_grad_()
    with mock.patch.multiple(triton_kernels, WEIGHT_PIXELS=pixels, GRADIENT_PIXELS=pixels):
        weights = spatially_varying_weights(x, kernels, dilations)
        gradients = torch.autograd.grad(weights, (x, kernels), grad)
    exact_gradients = torch.autograd.grad(expected, (exact, exact_kernels), grad.double())
    tolerance = max(torch.finfo(dtype).eps, 1e-5)
    close = dict(rtol=tolerance, atol=tolerance, check_dtype=False)
    assert (weights.dtype, gradients[0].dtype, gradients[1].dtype) == (dtype, dtype, torch.float32)
    torch.testing.assert_close(weights, expected, **close)
    torch.testing.assert_close(gradients, exact_gradients, **close)


def spatially_varying_weights_of_pytorch(*arguments):
    with mock.patch.object(WEIGHTS, 'triton_kernels_for', return_value=None):
        return spatially_varying_weights(*arguments)


@pytest.mark.usefixtures('_kernels_for_weights')
def test_spatial_weights_can_be_differentiated_in_every_way():
    inputs = torch.randn(1, 2, 4, 3), torch.randn(1, 2, 3, 3)
    tangents = tuple(map(torch.randn_like, inputs))

    def second(function):
        leaves = [each.clone().requires_grad_() for each in inputs]
        first = torch.autograd.grad(function(*leaves).sin().sum(), leaves, create_graph=True)
        return torch.autograd.grad(sum(each.square().sum() for each in first), leaves)

    def forward(function):
        with torch.autograd.forward_ad.dual_level():
            duals = map(torch.autograd.forward_ad.make_dual, inputs, tangents)
            return torch.autograd.forward_ad.unpack_dual(function(*duals)).tangent

    def transformed(function):
        pair = [torch.stack([each, -each]) for each in inputs]
        return torch.func.vmap(torch.func.grad(lambda *each: function(*each).sum()))(*pair)

    for way in (second, forward, transformed):
        expected = way(spatially_varying_weights_of_pytorch)
        torch.testing.assert_close(way(spatially_varying_weights), expected)


@pytest.mark.usefixtures('_kernels_for_weights')
def test_spatial_weights_pass_over_the_features_once():
    x = torch.randn(1, 2, 16, 16, requires_grad=True)
    kernels, grad = torch.randn(1, 2, 3, 3, requires_grad=True), torch.ones(x.shape)
    with Launches() as launches:
        weights = spatially_varying_weights(x, kernels)
    assert launches.triton == launches.count == 1, launches.torch
    with Launches() as launches, Traffic() as traffic:
        torch.autograd.grad(weights, (x, kernels), grad)
    assert launches.triton == launches.count == 1, launches.torch
    # Once: the features, the gradient from above, that of the features; and three of convolutions.
    floor = (3 + 3) * x.nbytes + 2 * kernels.nbytes
    assert floor <= traffic.bytes <= floor + 32 * 8
    with pytest.raises(ValueError, match=r'kernels must be \[B, C, k, k\]'):
        spatially_varying_weights(x, kernels[:, :1])
    WEIGHTS._compare(triton_kernels, torch.device('cpu'), torch.float32)


class Launches(TorchDispatchMode):
    """Counts kernels: of Triton, and one for each operation that is no view and makes values."""

    def __init__(self):
        super().__init__()
        self.triton, self.torch = 0, []

    def __enter__(self):
        run = GridExecutor.__call__

        def launch(*args, **kwargs):
            self.triton += 1
            # The interpreter itself copies tensors, which a GPU does not.
            with torch.utils._python_dispatch._disable_current_modes():
                return run(*args, **kwargs)

        self.patch = mock.patch.object(GridExecutor, '__call__', launch)
        self.patch.start()
        return super().__enter__()

    def __exit__(self, *args):
        self.patch.stop()
        return super().__exit__(*args)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        no_launch = 'empty', 'detach', 'promote_types'
        if not func.is_view and not any(each in str(func) for each in no_launch):
            self.torch.append(str(func))
        return out

    @property
    def count(self):
        return self.triton + len(self.torch)


@pytest.mark.parametrize(
    ('classes', 'options'),
    [(40, {}), (19, dict(avg_non_ignore=True)), (2, dict(class_weight=[1.0, 2.0]))],
)
def test_few_launches_in_the_loss_of_a_training_step(classes, options):
    criterion = dict(type='CrossEntropyLoss', loss_weight=0.4, **options)
    sizes = dict(in_channels=4, channels=4, num_classes=classes)
    head = MODELS.build(dict(type='FCNHead', loss_decode=criterion, **sizes))
    logits = torch.randn(2, classes, 2, 2, requires_grad=True)
    samples = data_samples(torch.randint(0, classes, (2, 4, 4)))
    with kernels_everywhere():
        if 'class_weight' in options:
            losses_by_feat(head, logits, samples)  # copies the weights to the device
        with Launches() as launches:
            losses_by_feat(head, logits, samples)['loss_ce'].backward()
    # The losses, their reduction, and the gradient; a batch of the labels, the assertion about
    # them, and the gradient's start.
    assert launches.triton == 3
    assert len(launches.torch) == 3, launches.torch


def test_few_launches_in_a_prediction():
    logits = [torch.randn(3, 2, 2), torch.randn(3, 3, 2)]
    sides = [
        [[Interpolation.identity(n, logits[0]).resize(6, False)] for n in each.shape[1:]]
        for each in logits
    ]
    passes = [ResizedLogits([[x]], *both) for x, both in zip(logits, sides, strict=True)]
    with kernels_everywhere(), Launches() as launches:
        resized_logits.predicted_labels(passes[0])
    assert launches.triton == 1
    assert launches.count <= 9, launches.torch  # with the tables of rows and columns
    with kernels_everywhere(), Launches() as launches:
        averaged_labels(passes)
    assert launches.triton == 1


class Traffic:
    """Counts the bytes of all sectors of memory that kernels touch, by their addresses."""

    def __enter__(self):
        self.sectors = set()  # of 32 bytes
        load, store = InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store

        def masked_load(builder, ptrs, mask, *args):
            self.note(ptrs.data, mask.data)
            return load(builder, ptrs, mask, *args)

        def masked_store(builder, ptrs, value, mask, *args):
            self.note(ptrs.data, mask.data)
            return store(builder, ptrs, value, mask, *args)

        calls = dict(create_masked_load=masked_load, create_masked_store=masked_store)
        self.patch = mock.patch.multiple(InterpreterBuilder, **calls)
        self.patch.start()
        return self

    def note(self, addresses, mask):
        addresses = addresses[np.broadcast_to(mask, addresses.shape).astype(bool)]
        self.sectors.update((addresses // 32).tolist())

    @property
    def bytes(self):
        return 32 * len(self.sectors)

    def __exit__(self, *_):
        self.patch.stop()


def test_traffic_is_what_the_page_about_gpus_counts():
    classes = 19
    logits, label = torch.randn(1, classes, 4, 8), torch.randint(0, classes, (1, 32, 64))
    options = label, None, 255, False, None, 0.0, 1.0
    with Traffic() as forward:
        _, _, _, normaliser, scale = triton_kernels.reduced_losses(logits, *options)
    # The small logits and the label in, the log-normaliser out; five sums of each program.
    floor = logits.nbytes + label.numel() * (8 + 4)
    assert floor <= forward.bytes <= floor + 2 * 5 * 4 * 8 + 32 * 8
    with Traffic() as backward:
        triton_kernels.pixel_losses_backward(
            torch.ones(()), logits, label, normaliser, False, scale
        )
    floor = 2 * logits.nbytes + label.numel() * (8 + 4)
    assert floor <= backward.bytes <= floor + 32 * 8


def test_the_comparison_at_the_first_use_passes():
    kernel_choice._compare(triton_kernels, torch.device('cpu'), torch.float32)

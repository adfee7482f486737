"""The contract that every head keeps: a test for each condition, for each row of ``HEADS``."""

import copy
import pickle
import signal

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._inductor import config as inductor

from mmseg_ctx.export import export_onnx
from mmseg_ctx.utils.models import last_head
from tests.export.test_onnx import expected_logits, run
from tests.heads.contract import (
    CLASSES,
    HEADS,
    assert_finite,
    build,
    build_random,
    features,
    flat,
    freeze_norms,
    labels,
    losses_and_gradients,
    losses_of,
    total,
)
from tests.heads.runs import train, train_alike, train_sharded
from tests.helpers import Uploads, assert_relative, data_samples, run_in_process, run_processes
from tests.small_models import METHODS, build_segmentor


def pytest_generate_tests(metafunc):
    """Give each test all heads."""
    metafunc.parametrize('head', HEADS)


def test_one_image(head, device):
    """An image alone has the logits that it has beside another. A training step on it is finite."""
    model = build_random(head, device).eval()
    inputs = features(device)
    alone = [each[:1] for each in inputs]
    torch.testing.assert_close(model(alone), model(inputs)[:1], rtol=1e-4, atol=1e-5)
    assert_finite(*losses_and_gradients(model.train(), alone, labels(device, batch=1)))


@pytest.mark.parametrize(
    'sizes',
    [((11, 10), (3, 7), (5, 3)), ((9, 1), (5, 1), (5, 1)), ((1, 1),) * 3],
    ids=['no multiples', 'one column', 'one cell'],
)
def test_odd_sizes(head, sizes, device):
    """Logits have the finest map's size, predictions the image's. The loss is PyTorch's.

    It equals PyTorch's cross-entropy of the logits that PyTorch resizes to the labels.
    """
    model = build_random(head, device).eval()
    inputs, label = features(device, sizes=sizes), labels(device, size=(67, 45))
    logits = model(inputs)
    index = last_head(model).in_index
    finest = index[0] if isinstance(index, (list, tuple)) else index
    assert logits.shape == (2, CLASSES, *sizes[finest])
    losses, gradients = losses_and_gradients(model, inputs, label)
    assert_finite(losses, gradients)
    align_corners = last_head(model).align_corners
    full = F.interpolate(logits, (67, 45), mode='bilinear', align_corners=align_corners)
    expected = F.cross_entropy(full, label, ignore_index=255, reduction='sum') / label.numel()
    *_, name = (name for name in losses if name.endswith('.loss_ce'))
    torch.testing.assert_close(losses[name], expected.detach(), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        results = model.predict(inputs, data_samples(label))
    assert [result.pred_sem_seg.shape for result in results] == [(67, 45)] * 2


def test_everything_ignored(head, device):
    """Every loss is 0, and so is every gradient."""
    model = build(head).to(device)
    label = torch.full_like(labels(device), 255)
    losses, gradients = losses_and_gradients(model, features(device), label)
    assert total(losses) == 0
    for name, gradient in gradients.items():
        assert torch.equal(gradient, torch.zeros_like(gradient)), name


def test_a_class_absent(head, device):
    """With two classes in one image and one in the other, losses and gradients are float64's."""
    model = build(head).to(device).eval()
    inputs, label = features(device), labels(device)
    label[0] = label[0] % 2 + 3
    label[1] = 7
    single = losses_and_gradients(model, inputs, label)
    assert_finite(*single)
    doubled = losses_and_gradients(
        copy.deepcopy(model).double(), [each.double() for each in inputs], label
    )
    for name, value in single[0].items():
        torch.testing.assert_close(value.double(), doubled[0][name].double(), rtol=1e-4, atol=1e-5)
    assert_relative(flat(single[1]), flat(doubled[1]), 1e-4)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=['float16', 'bfloat16'])
def test_autocast_at_magnitude_1e4(head, dtype, device):
    """Logits, losses and gradients are finite, logits and losses near those of float32."""
    model = build(head).to(device)
    inputs = [1e4 * each.clamp(-1, 1) for each in features(device)]
    label = labels(device)
    expected, losses = model(inputs), losses_of(model, inputs, label)
    with torch.autocast(device.type, dtype):
        logits = model(inputs)
        actual = losses_and_gradients(model, inputs, label)
    assert logits.isfinite().all()
    assert_finite(*actual)
    # On the whole: a cosine turns a feature that is all but zero into any direction.
    error = (logits.float() - expected).norm() / expected.norm()
    assert error <= 20 * torch.finfo(dtype).eps
    for name, value in losses.items():
        if 'loss' in name:
            torch.testing.assert_close(actual[0][name], value.detach(), rtol=1e-2, atol=1e-3)


def test_bfloat16_weights(head, device):
    """Logits are near those of float32."""
    model, inputs = build(head).to(device).eval(), features(device)
    expected = model(inputs)
    actual = model.bfloat16()([each.bfloat16() for each in inputs])
    assert_relative(actual.detach(), expected.detach(), 0.1)


def test_channels_last(head, device):
    """Logits, losses and gradients are those of the usual memory format."""
    model, inputs, label = build(head).to(device), features(device), labels(device)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    formatted = [each.to(memory_format=torch.channels_last) for each in inputs]
    assert_relative(last(formatted), model(inputs), 1e-4)
    expected, gradients = losses_and_gradients(model, inputs, label)
    losses, actual = losses_and_gradients(last, formatted, label)
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-5)
    assert_relative(flat(actual), flat(gradients), 1e-4)


def test_strict_state_dict(head, device, tmp_path):
    """Weights written by one model load strictly into another, which then is the same.

    MMSegmentation's own segmentor has the same names. A name that is missing is an error.
    """
    model, inputs = build_random(head, device).eval(), features(device)
    torch.save(model.state_dict(), tmp_path / 'model.pth')
    weights = torch.load(tmp_path / 'model.pth', weights_only=True)
    for kind in ('EncoderDecoder', 'MemoryEfficientEncoderDecoder'):
        other = build(head, kind).to(device).eval()
        assert not torch.equal(other(inputs), model(inputs))
        other.load_state_dict(weights, strict=True)
        assert torch.equal(other(inputs), model(inputs))
    name, _ = weights.popitem()
    with pytest.raises(RuntimeError, match=name):
        other.load_state_dict(weights, strict=True)


def test_copy_and_pickle(head, device):
    """Copies have the same logits, losses and gradients, and weights of their own."""
    model, inputs, label = build_random(head, device).eval(), features(device), labels(device)
    expected = model(inputs), *losses_and_gradients(model, inputs, label)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(last_head(other)) is type(last_head(model))
        actual = other(inputs), *losses_and_gradients(other, inputs, label)
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
        nn.init.zeros_(last_head(other).conv_seg.weight)
        assert last_head(model).conv_seg.weight.any()


def test_no_value_is_read(head):
    """Losses and gradients need no value in Python, for which a GPU would have to finish first.

    The test uses tensors without values. A step copies nothing to the device.
    """
    with torch.device('meta'):
        model = build(head)
        inputs = [torch.empty(2, channels, 8, 8) for channels in (4, 8, 16)]
        label = torch.empty(2, 61, 51, dtype=torch.long)
    with Uploads() as uploads:
        losses, gradients = losses_and_gradients(model, inputs, label)
    assert uploads.found == []
    assert all(each.is_meta for each in (losses | gradients).values())
    assert model.eval()(inputs).shape[:2] == (2, CLASSES)


def test_export(head, device):
    """``torch.export`` with dynamic sizes gives the same logits at another size."""
    model = build_random(head, device).eval()
    dimensions = [
        {0: torch.export.Dim('batch'), 2: torch.export.Dim(f'h{i}'), 3: torch.export.Dim(f'w{i}')}
        for i in range(3)
    ]
    program = torch.export.export(
        model, (features(device),), dynamic_shapes=(dimensions,), strict=False
    )
    assert set(program.state_dict) == set(model.state_dict())
    inputs = features(device, 3, ((19, 10), (9, 5), (7, 5)))
    torch.testing.assert_close(program.module()(inputs), model(inputs), rtol=1e-4, atol=1e-5)


def test_trace(head, device, tmp_path):
    """A trace that was saved and loaded gives the same logits for other features."""
    model, inputs = build_random(head, device).eval(), features(device)
    other = [each.flip(0, 2) for each in inputs]
    with torch.no_grad():
        torch.jit.save(torch.jit.trace(model, (inputs,)), tmp_path / 'traced.pt')
        traced = torch.jit.load(tmp_path / 'traced.pt')
        torch.testing.assert_close(traced(other), model(other), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_onnx(head, tmp_path):
    """onnxruntime gives PyTorch's logits for images of sizes that the exporter has not seen."""
    segmentor = build_segmentor(HEADS[head])
    path = tmp_path / 'model.onnx'
    agreements = export_onnx(segmentor, path, (48, 56), dynamic=True)
    assert len({agreement.shape for agreement in agreements}) == 6
    assert all(agreement.holds for agreement in agreements)
    for shape in ((3, 3, 41, 90), (1, 3, 64, 33)):
        image = torch.randn(shape)
        expected = expected_logits(segmentor, image)
        assert expected.std() > 0.05  # or any file would agree
        torch.testing.assert_close(run(path, image), expected, rtol=0, atol=1e-3)


def test_memory_efficient_segmentor(head, device):
    """Losses, gradients and labels are those of MMSegmentation's segmentor, without logits."""
    stock, ours = (
        build(head, kind).to(device) for kind in ('EncoderDecoder', 'MemoryEfficientEncoderDecoder')
    )
    inputs, label = features(device), labels(device)
    (expected, gradients), (losses, actual) = (
        losses_and_gradients(model, inputs, label) for model in (stock, ours)
    )
    assert losses.keys() == expected.keys()
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-5)
    assert_relative(flat(actual), flat(gradients), 1e-4)
    with torch.no_grad():
        theirs, mine = (
            model.eval().predict(inputs, data_samples(label))[0] for model in (stock, ours)
        )
    assert 'seg_logits' not in mine
    assert len(theirs.pred_sem_seg.data.unique()) > 1
    assert (mine.pred_sem_seg.data == theirs.pred_sem_seg.data).float().mean() >= 0.999


def test_two_processes(head, trained_by_two):
    """Two processes with one image each train to the same weights.

    They are those of one process with both images, and the mean of the two losses is its loss.
    MMEngine's runner trains them all.
    """
    first, second, joint = (results[head] for results in trained_by_two)
    losses, before, after = joint
    assert losses.keys() == first[0].keys() == {1, 2}
    for iteration, expected in losses.items():
        for name, value in expected.items():
            if 'acc_seg' not in name:  # which is of labelled pixels
                mean = (first[0][iteration][name] + second[0][iteration][name]) / 2
                torch.testing.assert_close(mean, value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first[2], second[2], rtol=0, atol=0)
    torch.testing.assert_close(first[2], after, rtol=1e-4, atol=1e-5)
    assert not all(torch.equal(after[name], before[name]) for name in after)


@pytest.fixture(scope='module')
def trained_by_two(tmp_path_factory):
    """What the two processes, and the one with both images, return of every head."""
    folder = tmp_path_factory.mktemp('trained')
    ranks = run_processes(train_alike, folder / 'two', folder=folder)
    alone = dict(batch=2, options={})
    path = folder / 'one.pth'
    assert run_in_process(train_alike, 0, folder / 'one', path=path, **alone) == 0
    return *ranks, torch.load(path)


@pytest.mark.slow
def test_killed_and_resumed(head, tmp_path):
    """A killed and resumed run has the losses and weights of an unbroken one, bit for bit."""
    unbroken, killed = tmp_path / 'unbroken', tmp_path / 'killed'
    path = tmp_path / 'results.pth'
    assert run_in_process(train, head, killed, killed_after=3, path=path) == -signal.SIGKILL
    assert not path.exists()
    assert run_in_process(train, head, killed, options=dict(resume=True), path=path) == 0
    losses, _, weights = torch.load(path)
    assert run_in_process(train, head, unbroken, path=path) == 0
    expected, before, after = torch.load(path)
    assert list(expected) == [1, 2, 3, 4]
    assert list(losses) == [3, 4]  # The checkpoint before the kill is that of iteration 2.
    for iteration in losses:
        torch.testing.assert_close(losses[iteration], expected[iteration], rtol=0, atol=0)
    torch.testing.assert_close(weights, after, rtol=0, atol=0)
    assert not all(torch.equal(after[name], before[name]) for name in after)


def test_compile(head, device):
    """``torch.compile(fullgraph=True)``: logits, losses and gradients are eager's.

    Inductor compiles each head once, alone; in CAC the graph is what is tested. The heads have no
    norms here, since compiling takes most of the time of this file.
    """
    model = build(head, norm_cfg=None).to(device)
    inputs, label = features(device), labels(device)
    freeze_norms(model)  # CaC-Net has one still; logits and losses then share their graph.

    def step(inputs, label):
        return model(inputs), losses_of(model, inputs, label)

    results = []
    torch.compiler.reset()  # Each head compiles this function; PyTorch stops at the eighth time.
    backend = 'inductor' if head in (*METHODS, 'CAC on FCN') else 'aot_eager'
    # Not optimised, in this process: half the time, and the same code otherwise.
    with inductor.patch({'aot_inductor.debug_compile': True, 'compile_threads': 1}):
        for function in (step, torch.compile(step, fullgraph=True, backend=backend)):
            logits, losses = function(inputs, label)
            gradients = torch.autograd.grad(total(losses), list(model.parameters()))
            results.append((logits, losses, gradients))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def test_sharded_by_two(head, sharded_by_two):
    """FSDP2 on two processes trains as one process does, with every layer a shard of its own."""
    for losses, weights in sharded_by_two:
        for actual, expected in (losses[head], weights[head]):
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope='module')
def sharded_by_two(tmp_path_factory):
    """What two processes return of every head, with and without FSDP2."""
    return run_processes(train_sharded, folder=tmp_path_factory.mktemp('sharded'))

import sys

import pytest
import torch
import torch.nn.functional as F
from mmseg.models.losses import CrossEntropyLoss, accuracy

from mmseg_ctx.analysis.benchmark import peak_memory
from mmseg_ctx.ops import upsampled_cross_entropy
from tests.helpers import Uploads, assert_relative

MODULE = sys.modules[upsampled_cross_entropy.__module__]  # its name is the function's
WEIGHTS = [1.0, 2.0, 0.5, 0.0, 3.0]


def case(size=(7, 9), target=(50, 131), classes=5, ignore_index=255, dtype=torch.float32):
    torch.manual_seed(0)
    logits = (3 * torch.randn(2, classes, *size)).to(dtype).requires_grad_()
    label = torch.randint(0, classes, (2, *target))
    label[torch.rand(label.shape) < 0.2] = ignore_index
    label[0, 0, 0] = 1  # something is labelled, however small the map
    return logits, label


def reference(logits, label, align_corners=False, ignore_index=255, **arguments):
    """MMSegmentation's own two steps."""
    full = F.interpolate(logits, label.shape[1:], mode='bilinear', align_corners=align_corners)
    loss = CrossEntropyLoss(**arguments)(full, label, ignore_index=ignore_index)
    return loss, accuracy(full, label, ignore_index=ignore_index)


@pytest.mark.parametrize('place', [(0, 3), (0, 3, 4, 4)])
@pytest.mark.parametrize('value', [torch.finfo(torch.float32).min, -torch.inf])
def test_of_logits_that_leave_a_class_out(value, place):
    logits, label = case()
    logits = logits.detach()
    logits[place] = value
    logits.requires_grad_()
    label = label.masked_fill(label == 3, 0)
    finite = logits.detach().clamp(min=-1e30).requires_grad_()  # as PyTorch's resize makes no NaN
    loss, _ = upsampled_cross_entropy(logits, label)
    expected, _ = reference(finite, label)
    assert_relative(loss.detach(), expected.detach(), 1e-6)
    gradients = (torch.autograd.grad(*each)[0] for each in ((loss, logits), (expected, finite)))
    assert_relative(*gradients, 1e-5)


def test_second_derivatives_are_refused():
    logits, label = case()
    loss, _ = upsampled_cross_entropy(logits, label)
    with pytest.raises(RuntimeError, match='can be differentiated once'):
        torch.autograd.grad(loss, logits, create_graph=True)


def test_labels_of_another_number_of_images_are_refused():
    logits, label = case()
    with pytest.raises(ValueError, match='must have 2 images like logits, got 1'):
        upsampled_cross_entropy(logits, label[:1])


@pytest.mark.parametrize('value', [torch.inf, torch.nan])
def test_what_skips_a_step_of_training_stays(value):
    logits, label = case()
    logits = logits.detach()
    logits[0, 3, 4, 4] = value
    logits.requires_grad_()
    loss, _ = upsampled_cross_entropy(logits, label)
    assert loss.isnan()
    assert torch.autograd.grad(loss, logits)[0].isnan().any()


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize(
    ('size', 'target'),
    [
        ((7, 9), (50, 131)),
        ((8, 8), (64, 64)),
        ((9, 9), (65, 129)),
        ((8, 8), (5, 3)),
        ((6, 5), (6, 5)),
        ((40, 140), (40, 140)),
        ((9, 140), (40, 140)),
        ((1, 3), (40, 70)),
        ((3, 70), (1, 1)),
    ],
)
@pytest.mark.parametrize(
    'arguments',
    [dict(), dict(avg_non_ignore=True), dict(class_weight=WEIGHTS)],
    ids=['all', 'labelled', 'weighted'],
)
def test_equals_mmsegmentation(arguments, size, target, align_corners, device):
    logits, label = (each.to(device) for each in case(size, target))
    if 'class_weight' in arguments:
        # Upstream MMSegmentation looks for the class weight of an ignored pixel, and stops.
        label = label.clamp(max=logits.size(1) - 1)
    loss, share = upsampled_cross_entropy(
        logits, label, align_corners=align_corners, with_accuracy=True, **arguments
    )
    expected, expected_share = reference(logits, label, align_corners, **arguments)
    assert_relative(loss, expected, 1e-6)
    torch.testing.assert_close(share, expected_share)
    assert_relative(*(torch.autograd.grad(each, logits)[0] for each in (loss, expected)), 1e-5)


@pytest.mark.parametrize('ignore_index', [0, 3, -100, 254])
def test_other_ignore_indices(ignore_index):
    logits, label = case(ignore_index=ignore_index)
    loss, share = upsampled_cross_entropy(
        logits, label, ignore_index=ignore_index, with_accuracy=True
    )
    expected, expected_share = reference(logits, label, ignore_index=ignore_index)
    assert_relative(loss, expected, 1e-6)
    torch.testing.assert_close(share, expected_share)


@pytest.mark.parametrize('avg_non_ignore', [False, True])
def test_class_weights_divide_by_labelled_pixels_only(avg_non_ignore):
    # MMSegmentation's own code stops with an IndexError for all of this together.
    logits, label = case()
    loss, _ = upsampled_cross_entropy(logits, label, WEIGHTS, avg_non_ignore=avg_non_ignore)
    full = F.interpolate(logits, label.shape[1:], mode='bilinear')
    weight = torch.tensor(WEIGHTS)
    assert_relative(loss, F.cross_entropy(full, label, weight, ignore_index=255), 1e-6)


@pytest.mark.parametrize('align_corners', [False, True])
def test_gradients(align_corners):
    logits, label = case((3, 4), (11, 9), dtype=torch.float64)

    def loss(logits):
        return upsampled_cross_entropy(logits, label, WEIGHTS, align_corners=align_corners)[0]

    assert torch.autograd.gradcheck(loss, logits)
    with pytest.raises(RuntimeError):
        torch.autograd.gradgradcheck(loss, logits)


def test_tile_size_does_not_matter(monkeypatch):
    logits, label = case((8, 8), (61, 67))
    expected = upsampled_cross_entropy(logits, label, with_accuracy=True)
    for tile in ((1, 1), (61, 67), (100, 5)):
        monkeypatch.setattr(MODULE, 'tile_size', lambda *_, tile=tile: tile)
        actual = upsampled_cross_entropy(logits, label, with_accuracy=True)
        torch.testing.assert_close(actual, expected)


def test_all_ignored_is_a_connected_zero():
    logits, label = case()
    loss, share = upsampled_cross_entropy(logits, label.fill_(255), with_accuracy=True)
    loss.backward()
    assert loss == 0
    torch.testing.assert_close(share, torch.tensor([100.0]))  # as MMSegmentation says
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_far_apart_logits_do_not_underflow():
    # Halfway between two pixels that are sure of different classes, both are equally likely.
    logits = torch.tensor([[[[1e4, -1e4]], [[-1e4, 1e4]]]]).requires_grad_()
    label = torch.tensor([[[0, 0, 0, 1, 1, 1]]])
    loss, _ = upsampled_cross_entropy(logits, label)
    assert_relative(loss, reference(logits, label)[0], 1e-6)
    loss.backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    logits, label = case(dtype=dtype)
    with torch.autocast('cpu', dtype):
        loss, _ = upsampled_cross_entropy(logits, label)
    loss.backward()
    expected, _ = reference(logits.double(), label)
    assert loss.dtype == torch.float32
    assert logits.grad.dtype == dtype
    assert_relative(loss, expected.detach(), 1e-6)


def test_channels_last():
    logits, label = case()
    last = logits.detach().to(memory_format=torch.channels_last).requires_grad_()
    upsampled_cross_entropy(logits, label)[0].backward()
    upsampled_cross_entropy(last, label)[0].backward()
    torch.testing.assert_close(last.grad, logits.grad)


def test_no_gradient_is_made_where_none_is_asked():
    logits, label = case((16, 16), (64, 64), classes=32)
    asked = peak_memory(lambda: upsampled_cross_entropy(logits, label))
    with torch.no_grad():
        spared = peak_memory(lambda: upsampled_cross_entropy(logits, label))
    assert asked - spared >= logits.numel() * 4


def test_holds_no_full_size_tensor():
    logits, label = case((32, 32), (256, 256), classes=64)
    full = 4 * 2 * 64 * 256 * 256

    def steps(loss):
        def step():
            loss(logits, label)[0].backward()
            logits.grad = None

        return step

    assert peak_memory(steps(reference)) > 2 * full
    assert peak_memory(steps(upsampled_cross_entropy)) < full / 4


def test_compiles_into_one_graph():
    logits, label = case((8, 8), (40, 48))
    compiled = torch.compile(upsampled_cross_entropy, fullgraph=True, backend='aot_eager')
    loss, share = compiled(logits, label, with_accuracy=True)
    gradient = torch.autograd.grad(loss, logits)[0]
    expected, expected_share = upsampled_cross_entropy(logits, label, with_accuracy=True)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(share, expected_share)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, logits)[0])


def test_waits_for_no_device_and_copies_nothing_to_it():
    # What the operations do inside is hidden from a graph, so they are called here undecorated.
    logits = torch.empty(2, 5, 8, 8, device='meta')  # a device of which no value can be read
    label = torch.empty(2, 61, 67, dtype=torch.long, device='meta')
    with Uploads() as uploads:
        loss, share = upsampled_cross_entropy(
            logits, label, label.new_empty(5, dtype=torch.float), with_accuracy=True
        )
        inside = MODULE._tiled_cross_entropy._init_fn(
            logits, label, label.float(), False, True, True
        )
        losses = MODULE._tiled_pixel_losses._init_fn(logits, label, False)
    assert uploads.found == []
    assert loss.shape == ()
    assert share.shape == (1,)
    assert [tensor.shape for tensor in inside] == [(), (1,), (2, 5, 8, 8)]
    assert losses.shape == label.shape

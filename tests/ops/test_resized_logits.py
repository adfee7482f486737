import pytest
import torch
import torch.nn.functional as F

from mmseg_ctx.ops import Interpolation, ResizedLogits, averaged_labels, predicted_labels
from tests.helpers import Uploads

SIZES = [(128, 120), (100, 90)]  # the network's input, the original image
LOWEST = torch.finfo(torch.float32).min


def labels(logits, align_corners):
    sides = []
    for source, *targets in zip(logits.shape[1:], *SIZES, strict=True):
        side = Interpolation.identity(source, logits)
        for target in targets:
            side = side.resize(target, align_corners)
        sides.append([side])
    return predicted_labels(ResizedLogits([[logits]], *sides))[0]


def reference(logits, align_corners):
    full = logits[None]
    for size in SIZES:
        full = F.interpolate(full, size, mode='bilinear', align_corners=align_corners)
    return full[0].argmax(0)


@pytest.fixture
def logits(device):
    return torch.randn(6, 16, 15, generator=torch.Generator().manual_seed(0)).to(device)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_of_passes(logits, dtype):
    passes = [logits.to(dtype), 2 * logits[:, ::2, 1:].to(dtype)]
    sides = [
        [
            [Interpolation.identity(cells, logits).resize(middle, False).resize(size, False)]
            for cells, middle, size in zip(each.shape[1:], *SIZES, strict=True)
        ]
        for each in passes
    ]
    images = [ResizedLogits([[each]], *both) for each, both in zip(passes, sides, strict=True)]
    scores = 0
    for each in passes:
        full = each[None].double()
        for size in SIZES:
            full = F.interpolate(full, size, mode='bilinear')
        scores = scores + full[0].softmax(0)
    best = scores.topk(2, 0).values
    sure = best[0] - best[1] > 1e-5
    assert sure.float().mean() > 0.99
    assert torch.equal(averaged_labels(images)[0][sure], scores.argmax(0)[sure])


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('value', [LOWEST, torch.inf, torch.nan])
def test_of_one_logit_that_is_not_finite_or_extreme(logits, value, align_corners):
    logits[3, 7, 8] = value
    expected = reference(logits, align_corners)
    assert torch.equal(labels(logits, align_corners), expected)


def test_of_a_class_that_is_left_out(logits):
    logits[3] = -1e30  # of which PyTorch's resize makes no NaN
    expected = reference(logits, False)
    logits[3] = -torch.inf
    assert torch.equal(labels(logits, False), expected)


def test_waits_for_no_device_and_copies_nothing_to_it():
    window = torch.empty(6, 8, 9, device='meta')  # a device of which no value can be read
    with Uploads() as uploads:
        sides = [
            [
                Interpolation.identity(cells, window).resize(2 * cells, False).place(start, 30)
                for start in (0, 30 - 2 * cells)
            ]
            for cells in window.shape[1:]
        ]
        image = ResizedLogits([[window, window], [window, window]], *sides)
        labels = predicted_labels(image), averaged_labels([image, image])
    assert uploads.found == []
    assert [each.shape for each in labels] == [(1, 30, 30)] * 2

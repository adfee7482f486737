"""CTNet's class probability loss against its equation and the authors' recorded output."""

import pytest
import torch
import torch.nn.functional as F

from mmseg_ctx.losses import ClassProbabilityLoss
from mmseg_ctx.losses.class_probability import class_shares

IGNORE = 255


def random_case():
    probabilities = torch.randn(3, 5).softmax(dim=1)
    label = torch.randint(0, 5, (3, 7, 9))
    label[:, 2:4] = IGNORE
    return probabilities, label


@pytest.mark.parametrize('ignore_index', [255, -100, 2])
def test_equals_the_equation(ignore_index):
    """Eq. 4 of each image; one without a label adds nothing."""
    probabilities, label = random_case()
    label[label == IGNORE] = ignore_index
    label[1] = ignore_index
    expected = 0
    for p, y in zip(probabilities, label, strict=True):
        y = y[y != ignore_index]
        if len(y):
            expected += F.binary_cross_entropy(p, y.bincount(minlength=5) / len(y)) / 3
    loss = ClassProbabilityLoss(1.0)(probabilities, label, ignore_index=ignore_index)
    torch.testing.assert_close(loss, expected)
    weighted = ClassProbabilityLoss(0.1)(probabilities, label, ignore_index=ignore_index)
    torch.testing.assert_close(weighted, 0.1 * expected)


def test_value_and_gradient_are_those_of_binary_cross_entropy():
    probabilities, label = random_case()
    # What a softmax gives where it saturates, and beyond what float32 can tell from 0 and 1.
    probabilities[0] = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0])
    probabilities[1] = torch.tensor([1e-45, 1e-38, 1e-20, 1 - 2**-24, 1e-10])
    results = []
    for function in (
        ClassProbabilityLoss(loss_weight=1.0),
        lambda p, y: F.binary_cross_entropy(p, class_shares(y, 5)),
    ):
        p = probabilities.clone().requires_grad_()
        loss = function(p, label)
        loss.backward()
        results.append((loss.detach(), p.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-6, atol=0)
    assert results[0][1].isfinite().all()


def test_gradient():
    probabilities, label = random_case()
    probabilities = probabilities.double().requires_grad_()
    label[1] = IGNORE
    assert torch.autograd.gradcheck(lambda p: ClassProbabilityLoss()(p, label), probabilities)


@pytest.mark.parametrize('value', [5, 254, -1])
def test_a_label_out_of_range_is_an_error_that_names_it(value):
    probabilities, label = random_case()
    label[0, 0, 0] = value
    with pytest.raises(ValueError, match=rf'labels must be in \[0, 5\).*got {value}$'):
        ClassProbabilityLoss()(probabilities, label)

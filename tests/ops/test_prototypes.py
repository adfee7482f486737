import pytest
import torch

from mmseg_ctx.ops import class_prototypes, one_hot
from tests.helpers import assert_relative


def naive(features, membership, absent, scope):
    """Eqs. 1 and 4 as loops over images, classes and pixels."""
    batch, width, height, columns = features.shape
    groups = [[image] for image in range(batch)] if scope == 'image' else [range(batch)]
    rows = []
    for group in groups:
        for one_class in range(membership.shape[1]):
            total, weights = torch.zeros(width, dtype=torch.float64), 0.0
            for image in group:
                for i in range(height):
                    for j in range(columns):
                        weight = membership[image, one_class, i, j].item()
                        total += weight * features[image, :, i, j]
                        weights += weight
            rows.append(total / weights if weights else absent[one_class])
    return torch.stack(rows).view(len(groups), membership.shape[1], width)


@pytest.mark.parametrize('scope', ['image', 'batch'])
@pytest.mark.parametrize('kind', ['labels', 'probabilities'])
@pytest.mark.parametrize('batch', [1, 2])
def test_equals_equations(batch, kind, scope, device):
    features = torch.randn(batch, 3, 4, 5, dtype=torch.float64)
    absent = torch.randn(6, 3, dtype=torch.float64)
    label = torch.randint(-1, 4, (batch, 4, 5))  # classes 4 and 5 are absent
    probabilities = torch.randn(batch, 6, 4, 5, dtype=torch.float64).softmax(dim=1)
    membership = one_hot(label, 6, torch.float64) if kind == 'labels' else probabilities
    expected = naive(features, membership, absent, scope)
    inputs = (each.to(device) for each in (features, membership, absent))
    assert_relative(class_prototypes(*inputs, scope), expected, 1e-9)


def test_one_hot_has_no_mask_for_other_labels():
    masks = one_hot(torch.tensor([[[0, 2, -1, 255]]]), 3)
    assert masks[0, :, 0].tolist() == [[1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]]


@pytest.mark.parametrize('scope', ['image', 'batch'])
def test_gradients(scope):
    features = torch.randn(2, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    logits = torch.randn(2, 4, 2, 3, dtype=torch.float64, requires_grad=True)

    def prototypes(features, logits):
        return class_prototypes(features, logits.softmax(dim=1), scope=scope)

    assert torch.autograd.gradcheck(prototypes, (features, logits))


def test_class_without_pixels_or_probability_has_finite_gradients():
    features = torch.randn(1, 3, 2, 2, requires_grad=True)
    logits = torch.tensor([0.0, -1e4, -60.0]).view(1, 3, 1, 1).repeat(1, 1, 2, 2).requires_grad_()
    prototypes = class_prototypes(features, logits.softmax(dim=1))
    assert torch.equal(prototypes[0, 1], torch.zeros(3))
    prototypes.sum().backward()
    assert torch.isfinite(features.grad).all()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_averages_large_features_in_float32_under_autocast(dtype, device):
    # Their sum, 4e7, is beyond float16, and bfloat16 would stop adding after some hundred.
    features = (1e4 + torch.randn(1, 3, 64, 64)).to(device, dtype)
    membership = torch.rand(1, 5, 64, 64).to(device)
    with torch.autocast(device.type, dtype):
        prototypes = class_prototypes(features, membership)
    expected = class_prototypes(features.double(), membership.double())
    assert prototypes.dtype == torch.float32
    assert_relative(prototypes, expected, 1e-6)

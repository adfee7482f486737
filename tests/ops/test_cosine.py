import pytest
import torch
import torch.nn.functional as F

from mmseg_ctx.analysis.benchmark import peak_memory
from mmseg_ctx.ops import cosine_logits, dot_logits
from tests.helpers import assert_relative


@pytest.mark.parametrize('images', [1, 2])
def test_equals_equation(images, device):
    features = torch.randn(2, 8, 3, 5, dtype=torch.float64).to(device)
    classifier = torch.randn(images, 4, 8, dtype=torch.float64).to(device)
    pixels = F.normalize(features, dim=1)
    weights = F.normalize(classifier, dim=2).expand(2, -1, -1)
    expected = 15 * torch.einsum('bnd,bdhw->bnhw', weights, pixels)
    torch.testing.assert_close(cosine_logits(features, classifier, 15.0), expected)
    expected = torch.einsum('bnd,bdhw->bnhw', classifier.expand(2, -1, -1), features)
    torch.testing.assert_close(dot_logits(features, classifier), expected)


@pytest.mark.parametrize('images', [1, 2])
def test_gradients(images):
    features = torch.randn(2, 5, 2, 3, dtype=torch.float64, requires_grad=True)
    classifier = torch.randn(images, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda *inputs: cosine_logits(*inputs, 15.0), (features, classifier)
    )
    assert torch.autograd.gradcheck(dot_logits, (features, classifier))


def test_zero_feature_has_zero_logits_and_gradients():
    features = torch.randn(1, 8, 2, 2)
    features[:, :, 0, 0] = 0
    features.requires_grad_()
    classifier = torch.randn(1, 4, 8)
    classifier[0, 0] = 0
    classifier.requires_grad_()
    logits = cosine_logits(features, classifier, 15.0)
    assert torch.equal(logits[0, :, 0, 0], torch.zeros(4))
    assert torch.equal(logits[0, 0], torch.zeros(2, 2))
    (logits * torch.randn_like(logits)).sum().backward()
    assert torch.equal(features.grad[0, :, 0, 0], torch.zeros(8))
    assert features.grad[0, :, 1, 1].abs().min() > 0
    assert torch.equal(classifier.grad[0, 0], torch.zeros(8))
    assert torch.isfinite(classifier.grad).all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('function', [lambda *inputs: cosine_logits(*inputs, 15.0), dot_logits])
def test_computes_in_float32_under_autocast(function, dtype, device):
    features = (1e4 * torch.randn(1, 64, 4, 4)).to(device, dtype)
    classifier = 10 * torch.randn(1, 5, 64).to(device)
    with torch.autocast(device.type, dtype):
        logits = function(features, classifier)
    assert logits.dtype == torch.float32
    assert_relative(logits, function(features.double(), classifier.double()), 1e-5)


def test_makes_no_copy_of_the_features():
    features = torch.randn(2, 64, 8, 8, requires_grad=True)
    classifier = torch.randn(2, 4, 64)

    def backward():
        return torch.autograd.grad(cosine_logits(features, classifier, 15.0).sum(), features)

    forward = peak_memory(lambda: cosine_logits(features.detach(), classifier, 15.0))
    assert forward < features.nbytes
    assert features.nbytes <= peak_memory(backward) < 2 * features.nbytes

"""CAC's loss L_KL against the paper's equations."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_ctx.losses import ClassEntropyKLLoss
from tests.helpers import assert_relative

CLASSES = 5


def case(batch=2, classes=CLASSES, labels=None):
    torch.manual_seed(batch)
    shape = (batch, classes, 4, 6)
    prior, estimate, oracle = (2 * torch.randn(3, *shape, dtype=torch.float64)).unbind()
    label = torch.randint(0, labels or classes, (batch, 4, 6))
    label[torch.rand(label.shape) < 0.2] = 255
    return prior, estimate.requires_grad_(), oracle, label


def softmax(logits):
    exponentials = [math.exp(value - max(logits)) for value in logits]
    return [value / sum(exponentials) for value in exponentials]


def pixels(prior, estimate, oracle, label, soft_target_ratio, entropy_source):
    """Return a dictionary for each labelled pixel: image, class, entropy, cross-entropy."""
    sources = dict(prior=prior, estimate=estimate, oracle=oracle)
    found = []
    for image, i, j in (label != 255).nonzero().tolist():
        k = label[image, i, j].item()
        target = [soft_target_ratio * p for p in softmax(oracle[image, :, i, j].tolist())]
        target[k] += 1 - soft_target_ratio
        learner = softmax(estimate[image, :, i, j].tolist())
        source = softmax(sources[entropy_source][image, :, i, j].tolist())
        entropy = -sum(p * math.log(p) for p in source)
        loss = -sum(t * math.log(q) for t, q in zip(target, learner, strict=True))
        found.append(dict(image=image, label=k, entropy=entropy, loss=loss))
    return found


def naive(found, batch, scope, entropy_weighting, class_wise):
    """Eqs. 7, 10 and 11 of the labelled pixels of the batch, or of each image."""
    groups = [found]
    if scope == 'image':
        groups = [[each for each in found if each['image'] == image] for image in range(batch)]
    losses = []
    for group in groups:
        classes = sorted({each['label'] for each in group}) if class_wise else [None]
        means = []
        for k in classes:
            members = [each for each in group if k is None or each['label'] == k]
            weights = [each['entropy'] if entropy_weighting else 1.0 for each in members]
            total = sum(
                weight * each['loss'] for weight, each in zip(weights, members, strict=True)
            )
            means.append(total / sum(weights))
        losses.append(sum(means) / len(means))
    return sum(losses) / len(losses)


@settings(max_examples=20, deadline=None)
@given(
    soft_target_ratio=st.sampled_from([0.0, 0.5, 1.0]),
    entropy_weighting=st.booleans(),
    class_wise=st.booleans(),
    entropy_source=st.sampled_from(['oracle', 'estimate', 'prior']),
    scope=st.sampled_from(['image', 'batch']),
)
def test_equals_equations(soft_target_ratio, entropy_weighting, class_wise, entropy_source, scope):
    inputs = case(labels=3)  # classes 3 and 4 are absent
    loss = ClassEntropyKLLoss(2.0, entropy_weighting, class_wise, soft_target_ratio, entropy_source)
    actual = loss(*inputs, scope=scope)
    found = pixels(*inputs, soft_target_ratio, entropy_source)
    expected = 2 * naive(found, 2, scope, entropy_weighting, class_wise)
    torch.testing.assert_close(actual.item(), expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize('scope', ['image', 'batch'])
@pytest.mark.parametrize('class_wise', [False, True])
def test_gradients(class_wise, scope):
    prior, estimate, oracle, label = case()
    loss = ClassEntropyKLLoss(class_wise=class_wise)

    def of_estimate(estimate):
        return loss(prior, estimate, oracle, label, scope=scope)

    assert torch.autograd.gradcheck(of_estimate, estimate)


@pytest.mark.parametrize('entropy_source', ['oracle', 'estimate', 'prior'])
def test_no_gradient_reaches_the_oracle_or_the_weights(entropy_source):
    prior, estimate, oracle, label = case()
    prior.requires_grad_()
    oracle.requires_grad_()
    loss = ClassEntropyKLLoss(entropy_source=entropy_source)
    loss(prior, estimate, oracle, label).backward()
    assert prior.grad is None
    assert oracle.grad is None
    assert estimate.grad.abs().sum() > 0


@pytest.mark.parametrize('ignore_index', [0, -100, 254])
def test_other_ignore_indices(ignore_index):
    *logits, label = case()
    label = label.masked_fill(label == ignore_index, 255)
    expected = ClassEntropyKLLoss()(*logits, label)
    label = label.masked_fill(label == 255, ignore_index)
    assert torch.equal(ClassEntropyKLLoss()(*logits, label, ignore_index), expected)


@pytest.mark.parametrize('scope', ['image', 'batch'])
@pytest.mark.parametrize('class_wise', [False, True])
def test_images_without_labels(class_wise, scope):
    prior, estimate, oracle, label = case()
    loss = ClassEntropyKLLoss(class_wise=class_wise)
    label[1] = 255
    one = loss(prior, estimate, oracle, label, scope=scope)
    alone = loss(prior[:1], estimate[:1], oracle[:1], label[:1], scope=scope)
    # An image counts in the mean over images, so that each process of two has the same share.
    assert_relative(one.detach(), alone.detach() / (2 if scope == 'image' else 1), 1e-10)
    none = loss(prior, estimate, oracle, label.fill_(255), scope=scope)
    none.backward()
    assert none == 0
    assert torch.equal(estimate.grad, torch.zeros_like(estimate))


def test_certain_oracle_has_no_weight():
    prior, estimate, _, label = case()
    certain = torch.nn.functional.one_hot(label.clamp(max=4), CLASSES).movedim(3, 1) * 1e5
    loss = ClassEntropyKLLoss()(prior, estimate, certain.double(), label)
    loss.backward()
    assert loss == 0
    assert torch.isfinite(estimate.grad).all()

"""The page about loops without MMEngine's runner: its files run, and learn."""

import re
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmseg_ctx.heads.cac import ContextAwareClassifier, ContextAwareClassifierLosses
from mmseg_ctx.ops import ResizableLogits
from tests.helpers import ROOT

PAGE = (ROOT / 'docs/own_loop.md').read_text()
FILES = dict(re.findall(r'^```python\n# (\S+\.py)\n(.*?)^```', PAGE, re.MULTILINE | re.DOTALL))


def run(name, changes=()):
    """Run a file of the page with parts of its text changed; return its variables."""
    text, variables = FILES[name], {}
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    exec(compile(text, name, 'exec'), variables)
    return variables


@pytest.mark.parametrize('name', ['plain_loop.py', 'plain_cac.py'])
def test_a_loop_learns_and_predicts_at_the_size_of_the_image(name):
    assert run(name)['prediction'].shape == (2, 64, 96)
    right = []
    for steps in (1, 60):
        changes = {
            'range(3)': f'range({steps})',
            'torch.rand(2, 3, 64, 96)': 'torch.ones(2, 3, 64, 96)',
            'torch.randint(5, (2, 64, 96))': 'torch.full((2, 64, 96), 3)',
        }
        logits = run(name, changes.items())['logits']
        right.append(logits.full().softmax(1)[:, 3].mean())
    assert right[1] > right[0] + 0.1


class SmpStandIn(nn.Module):
    """The modules of ``segmentation_models_pytorch``'s FPN that matter here."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Conv2d(3, 16, 4, stride=4)
        self.decoder = nn.Conv2d(16, 32, 3, padding=1)
        self.segmentation_head = nn.Sequential(
            nn.Conv2d(32, 5, 1), nn.UpsamplingBilinear2d(scale_factor=4), nn.Identity()
        )

    def forward(self, images):
        return self.segmentation_head(self.decoder(self.encoder(images).relu()).relu())


class SegformerStandIn(nn.Module):
    """The modules of transformers' SegFormer that matter here."""

    def __init__(self):
        super().__init__()
        self.segformer = nn.Conv2d(3, 32, 4, stride=4)
        self.decode_head = nn.Module()
        self.decode_head.dropout = nn.Dropout(0.1)
        self.decode_head.classifier = nn.Conv2d(32, 5, 1)

    def forward(self, images):
        features = self.decode_head.dropout(self.segformer(images).relu())
        return self.decode_head.classifier(features)


def smp(name):
    library = pytest.importorskip(
        'segmentation_models_pytorch', reason='segmentation_models_pytorch is not installed'
    )
    return getattr(library, name)('resnet18', encoder_weights=None, classes=5)


def segformer():
    transformers = pytest.importorskip('transformers', reason='transformers is not installed')
    config = transformers.SegformerConfig(
        depths=[1] * 4, hidden_sizes=[8, 16, 24, 32], decoder_hidden_size=32, num_labels=5
    )
    return transformers.SegformerForSemanticSegmentation(config)


@pytest.mark.parametrize(
    ('name', 'build'),
    [
        ('cac_on_smp.py', SmpStandIn),
        *[
            ('cac_on_smp.py', partial(smp, name))
            for name in ('FPN', 'DeepLabV3Plus', 'Segformer', 'UPerNet')
        ],
        ('cac_on_segformer.py', SegformerStandIn),
        ('cac_on_segformer.py', segformer),
    ],
)
def test_cac_on_a_model_of_another_library(name, build):
    model = build()
    classifier = run(name)['add_cac'](model)
    assert isinstance(classifier, ContextAwareClassifier)
    images, labels = torch.rand(2, 3, 64, 96), torch.randint(5, (2, 64, 96))
    labels[0, :9] = 255
    with classifier.training_step() as steps:
        output = model(images)
    small = getattr(output, 'logits', output)
    assert small.shape == (2, 5, 16, 24)
    logits = F.interpolate(ResizableLogits(small), labels.shape[1:], mode='bilinear')
    losses = ContextAwareClassifierLosses()(classifier, steps[0], labels)
    sum(losses.values(), F.cross_entropy(logits, labels, ignore_index=255)).backward()
    assert all(p.grad is not None for p in classifier.parameters())
    full = F.interpolate(small, labels.shape[1:], mode='bilinear')
    expected = F.cross_entropy(full, labels, ignore_index=255)
    torch.testing.assert_close(
        F.cross_entropy(logits, labels, ignore_index=255), expected, rtol=1e-5, atol=1e-6
    )

"""The snippets of the page "Backbones", with narrow random models, for two iterations."""

import re

import pytest
import torch
from mmengine import ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmseg.registry import MODELS

from tests.configs import training
from tests.configs.training import WIDTHS
from tests.helpers import ROOT, data_samples

PAGE = (ROOT / 'docs/backbones.md').read_text()
SNIPPETS = re.findall(r'```python\n(.+?)```', PAGE, re.DOTALL)
# What makes each backbone narrow, and the widths of its four outputs then.
ONCE = (1, 1, 1, 1)
NARROW = {
    'ResNetV1c': (training.RESNET, WIDTHS),
    'SwinTransformer': (training.BACKBONES['SwinTransformer'], WIDTHS),
    'mmpretrain.ConvNeXt': (dict(arch=dict(depths=ONCE, channels=WIDTHS)), WIDTHS),
    'MixVisionTransformer': (dict(embed_dims=4, num_layers=ONCE), (4, 8, 20, 32)),
    'VisionTransformer': (
        dict(embed_dims=16, num_layers=4, num_heads=2, out_indices=(0, 1, 2, 3)),
        (16, 16, 16, 16),
    ),
    'EfficientNetLite': ({}, training.NARROW['EfficientNetLite']),
    'TIMMBackbone': (dict(pretrained=False), (24, 40, 112, 960)),
}
PACKAGES = {'mmpretrain.ConvNeXt': 'mmpretrain.models', 'TIMMBackbone': 'timm'}


def snippet_model(snippet):
    variables = {}
    exec(snippet, variables)
    return ConfigDict(variables['model'])


def narrow(model):
    """Change a snippet's model to few channels and random weights."""
    changes, widths = NARROW[model.backbone.type]
    model.backbone.update(changes, init_cfg=None)
    head = model.decode_head.get('head', model.decode_head)
    several = not isinstance(head.in_index, int)
    head.in_channels = [widths[i] for i in head.in_index] if several else widths[head.in_index]
    head.update(training.HEADS.get(head.type, dict(channels=40)))


def kind(snippet):
    return snippet_model(snippet).backbone.type


def test_the_page_has_each_backbone():
    assert [kind(snippet) for snippet in SNIPPETS] == list(NARROW)


@pytest.mark.usefixtures('mmseg_scope')
@pytest.mark.parametrize('snippet', SNIPPETS, ids=kind)
def test_a_snippet_trains(snippet):
    model = snippet_model(snippet)
    if package := PACKAGES.get(model.backbone.type):
        pytest.importorskip(package, exc_type=ImportError)
    narrow(model)
    for part in (model.backbone, model.decode_head):
        assert part.pop('_delete_')
    model.update(
        type='MemoryEfficientEncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', size=(64, 64)),
        train_cfg=dict(),
        test_cfg=dict(mode='whole'),
    )
    segmentor = revert_sync_batchnorm(MODELS.build(model))
    segmentor.init_weights()
    samples = data_samples(torch.randint(0, 19, (2, 64, 64)))
    optimizer = torch.optim.SGD(segmentor.parameters(), lr=0.01)
    weights = [next(part.parameters()) for part in (segmentor.backbone, segmentor.decode_head)]
    before = [weight.detach().clone() for weight in weights]
    for _ in range(2):
        losses = segmentor(torch.rand(2, 3, 64, 64), samples, mode='loss')
        loss, _ = segmentor.parse_losses(losses)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert torch.isfinite(loss)
    assert not any(map(torch.equal, weights, before))


@pytest.mark.usefixtures('mmseg_scope')
def test_timm_loads_a_file_with_the_classifier_as_the_page_says(tmp_path):
    timm = pytest.importorskip('timm', exc_type=ImportError)
    whole = timm.create_model('mobilenetv3_large_100')
    torch.save(whole.state_dict(), tmp_path / 'whole.pth')
    model = next(
        each for each in map(snippet_model, SNIPPETS) if 'timm' in each.backbone.type.lower()
    )
    del model.backbone['_delete_']
    assert '`pretrained_cfg_overlay=dict(file=' in PAGE
    overlay = dict(file=str(tmp_path / 'whole.pth'))
    backbone = MODELS.build({**model.backbone, 'pretrained_cfg_overlay': overlay})
    assert torch.equal(backbone.timm_model.conv_stem.weight, whole.conv_stem.weight)

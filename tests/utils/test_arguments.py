"""The messages of wrong arguments: one line with argument, value and what is accepted."""

import math

import pytest
import torch
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from torch import nn

from mmseg_ctx.utils.arguments import (
    check_bool,
    check_choice,
    check_decode_head,
    check_features,
    check_int,
    check_ints,
    check_norm_inputs,
    check_number,
    check_ratio,
)

FCN = dict(type='FCNHead', in_channels=8, channels=4, num_classes=3, num_convs=1)
# Small heads of every kind, which share the arguments of BaseDecodeHead.
HEADS = {
    'ACNet': dict(
        type='AdaptiveContextHead',
        in_channels=(4, 8),
        in_index=(0, 1),
        block_channels=(6, 4),
        num_classes=3,
    ),
    'CaC-Net': dict(type='ContextAdaptiveConvHead', in_channels=8, channels=4, num_classes=3),
    'CTNet': dict(
        type='ContextTandemHead',
        in_channels=8,
        channels=4,
        num_classes=3,
        key_channels=4,
        kernel_sizes=(3,),
    ),
    'DMNet': dict(type='DynamicMultiScaleHead', in_channels=8, channels=4, num_classes=3),
    'CAC': FCN,
}


def build(name, **arguments):
    head = {**HEADS[name], **arguments}
    return MODELS.build(
        dict(type='ContextAwareClassifierHead', head=head) if name == 'CAC' else head
    )


@pytest.mark.parametrize(
    ('check', 'value', 'message'),
    [
        (check_int, '8', "x must be an integer >= 1, got '8'"),
        (check_int, 8.0, 'x must be an integer >= 1, got 8.0'),
        (check_int, True, 'x must be an integer >= 1, got True'),
        (check_int, 0, 'x must be an integer >= 1, got 0'),
        (check_ints, 3, 'x must be a non-empty list or tuple of integers >= 1, got 3'),
        (check_ints, (), 'x must be a non-empty list or tuple of integers >= 1, got ()'),
        (
            check_ints,
            (1, 2.5),
            'x must be a non-empty list or tuple of integers >= 1, got (1, 2.5)',
        ),
        (check_ints, (1, 0), 'x must be a non-empty list or tuple of integers >= 1, got (1, 0)'),
        (check_number, '5', "x must be a finite number >= 0.0, got '5'"),
        (check_number, True, 'x must be a finite number >= 0.0, got True'),
        (check_number, -1, 'x must be a finite number >= 0.0, got -1'),
        (check_number, math.inf, 'x must be a finite number >= 0.0, got inf'),
        (check_number, math.nan, 'x must be a finite number >= 0.0, got nan'),
        (check_ratio, 1.5, 'x must be a number from 0 to 1, got 1.5'),
        (check_ratio, math.nan, 'x must be a number from 0 to 1, got nan'),
        (check_bool, 1, 'x must be True or False, got 1'),
    ],
)
def test_a_value_that_is_not_accepted(check, value, message):
    with pytest.raises((TypeError, ValueError)) as error:
        check('x', value)
    assert str(error.value) == message


def test_bounds():
    with pytest.raises(ValueError, match=r'x must be an integer >= 3, got 2'):
        check_int('x', 2, minimum=3)
    with pytest.raises(ValueError, match=r'x must be a finite number > 0.0, got 0'):
        check_number('x', 0, exclusive=True)
    with pytest.raises(ValueError, match=r"x must be one of 'a', 'b', got None"):
        check_choice('x', None, ('a', 'b'))


def test_accepted_values_are_returned():
    assert check_int('x', 1) == 1
    assert check_ints('x', [1, 2]) == (1, 2)
    assert check_number('x', 0) == 0
    assert check_choice('x', 'a', ('a', 'b')) == 'a'
    assert [check_ratio('x', value) for value in (0, 0.5, 1)] == [0, 0.5, 1]
    assert check_bool('x', False) is False


WITH_TYPE = "must be a dict with a 'type', got "
IN_REGISTRY = "must have a 'type' that is in the "


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(num_classes=0), 'num_classes must be an integer >= 1, got 0'),
        (dict(num_classes='3'), "num_classes must be an integer >= 1, got '3'"),
        (dict(num_classes=None), 'num_classes must be an integer >= 1, got None'),
        (dict(out_channels=2), 'out_channels must be None, 1 or num_classes=3, got 2'),
        (dict(out_channels='3'), "out_channels must be None, 1 or num_classes=3, got '3'"),
        (dict(threshold='0.3'), "threshold must be a number from 0 to 1, got '0.3'"),
        (dict(threshold=2), 'threshold must be a number from 0 to 1, got 2'),
        (dict(dropout_ratio='a'), "dropout_ratio must be a number from 0 to 1, got 'a'"),
        (dict(dropout_ratio=-1), 'dropout_ratio must be a number from 0 to 1, got -1'),
        (dict(dropout_ratio=1.5), 'dropout_ratio must be a number from 0 to 1, got 1.5'),
        (dict(dropout_ratio=None), 'dropout_ratio must be a number from 0 to 1, got None'),
        (dict(align_corners='x'), "align_corners must be True or False, got 'x'"),
        (dict(align_corners=1), 'align_corners must be True or False, got 1'),
        (dict(align_corners=None), 'align_corners must be True or False, got None'),
        (dict(ignore_index='a'), "ignore_index must be an integer or None, got 'a'"),
        (dict(ignore_index=25.5), 'ignore_index must be an integer or None, got 25.5'),
        (dict(conv_cfg='Conv2d'), f"conv_cfg {WITH_TYPE}'Conv2d'"),
        (dict(norm_cfg='BN'), f"norm_cfg {WITH_TYPE}'BN'"),
        (dict(norm_cfg=dict(requires_grad=True)), f"norm_cfg {WITH_TYPE}{{'requires_grad': True}}"),
        (dict(norm_cfg=dict(type='BM')), f"norm_cfg {IN_REGISTRY}model registry, got 'BM'"),
        (dict(norm_cfg=[dict(type='BN')]), f"norm_cfg {WITH_TYPE}[{{'type': 'BN'}}]"),
        (
            dict(norm_cfg=dict(type='GN')),
            "norm_cfg must have 'num_groups' for group norm, got {'type': 'GN'}",
        ),
        (dict(norm_cfg=dict(type=nn.GroupNorm)), "norm_cfg must have 'num_groups'"),
        (
            dict(norm_cfg=dict(type='GN', num_groups=0)),
            "norm_cfg's 'num_groups' must be an integer >= 1, got 0",
        ),
        (dict(norm_cfg=dict(type=None)), f'norm_cfg {IN_REGISTRY}model registry, got None'),
        (dict(act_cfg='ReLU'), f"act_cfg {WITH_TYPE}'ReLU'"),
        (dict(act_cfg=True), f'act_cfg {WITH_TYPE}True'),
        (dict(sampler='OHEM'), f"sampler {WITH_TYPE}'OHEM'"),
        (dict(sampler=dict(type='OHEM')), f"sampler {IN_REGISTRY}task util registry, got 'OHEM'"),
        (dict(loss_decode='CrossEntropyLoss'), f"loss_decode {WITH_TYPE}'CrossEntropyLoss'"),
        (dict(loss_decode=None), f'loss_decode {WITH_TYPE}None'),
        (dict(loss_decode=[]), f'loss_decode {WITH_TYPE}[]'),
        (dict(loss_decode=['DiceLoss']), f"loss_decode {WITH_TYPE}'DiceLoss'"),
        (
            dict(loss_decode=dict(type='Dice')),
            f"loss_decode {IN_REGISTRY}model registry, got 'Dice'",
        ),
        (dict(init_cfg='Normal'), f"init_cfg {WITH_TYPE}'Normal'"),
        (
            dict(init_cfg=[dict(type='Gauss')]),
            f"init_cfg {IN_REGISTRY}weight initializer registry, got 'Gauss'",
        ),
        (dict(input_transform='sum'), "input_transform must be one of 'resize_concat', "),
    ],
)
def test_arguments_of_base_decode_head(arguments, message):
    with pytest.raises((TypeError, ValueError)) as error:
        check_decode_head(**{**dict(in_channels=8, channels=4, num_classes=3), **arguments})
    assert message in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('name', HEADS)
def test_every_head_checks_them(name):
    with pytest.raises(TypeError, match=f"norm_cfg {WITH_TYPE}'BN'"):
        build(name, norm_cfg='BN')
    with pytest.raises(ValueError, match='dropout_ratio must be a number from 0 to 1, got 2'):
        build(name, dropout_ratio=2)
    with pytest.raises((TypeError, ValueError), match=r'in_channels must be .* integer'):
        build(name, in_channels='8')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(channels='4'), "channels must be an integer >= 1, got '4'"),
        (dict(in_channels='8'), "in_channels must be an integer >= 1, got '8'"),
        (dict(in_channels=[4, 8]), 'in_channels must be an integer >= 1, got [4, 8]'),
        (
            dict(in_index='a'),
            'in_index must be an integer like in_channels, since input_transform',
        ),
        (
            dict(in_channels=8, in_index=0, input_transform='resize_concat'),
            'in_channels must be a non-empty list or tuple of integers >= 1, got 8',
        ),
        (
            dict(in_channels=[4, 8], in_index=1, input_transform='resize_concat'),
            'in_index must be a list or tuple of integers, got 1',
        ),
        (
            dict(in_channels=[4, 8], in_index=[0], input_transform='resize_concat'),
            'in_index must have as many entries as in_channels=[4, 8], got [0]',
        ),
    ],
)
def test_what_a_head_reads(arguments, message):
    with pytest.raises((TypeError, ValueError)) as error:
        check_decode_head(**{**dict(in_channels=8, channels=4, num_classes=3), **arguments})
    assert message in str(error.value)
    assert '\n' not in str(error.value)


def test_none_stands_for_nothing_or_for_the_default():
    nothing = dict(conv_cfg=None, norm_cfg=None, act_cfg=None, sampler=None, init_cfg=None)
    default = dict(out_channels=None, threshold=None, ignore_index=None)
    for name in HEADS:
        head = build(name, **nothing, **default).eval()
        assert head(inputs(2)).shape[:2] == (2, 3)


def test_configs_as_mmengine_hands_them_on():
    arguments = ConfigDict(
        norm_cfg=dict(type=nn.BatchNorm2d),
        act_cfg=dict(type='LeakyReLU', negative_slope=0.1),
        sampler=dict(type='OHEMPixelSampler', thresh=0.7),
        loss_decode=[dict(type='CrossEntropyLoss'), dict(type='mmseg.DiceLoss')],
        init_cfg=[dict(type='Kaiming', layer='Conv2d')],
        ignore_index=-100,
        dropout_ratio=0,
    )
    for name in HEADS:
        head = build(name, **arguments)
        head.init_weights()
        assert len(head.loss_decode) == 2


def inputs(batch, size=4):
    """Return features as a backbone of two stages gives them."""
    return [torch.rand(batch, channels, size, size) for channels in (4, 8)]


@pytest.mark.parametrize('name', HEADS)
@pytest.mark.parametrize('index', [2, -3])
def test_an_output_that_the_backbone_does_not_have(name, index):
    index = (0, index) if name == 'ACNet' else index
    head = build(name, in_index=index)
    with pytest.raises(
        ValueError, match="in_index must be among the backbone's 2 outputs"
    ) as error:
        head(inputs(2))
    assert str(error.value).endswith(f'got {index!r}')


@pytest.mark.parametrize('name', ['CaC-Net', 'CTNet', 'DMNet'])
def test_an_output_of_other_channels(name):
    with pytest.raises(
        ValueError, match=r'in_channels must be 4, the channels of .* in_index=0, got 8'
    ):
        build(name, in_index=0)(inputs(2))
    arguments = dict(in_channels=[4, 9], in_index=[0, 1], input_transform='resize_concat')
    with pytest.raises(ValueError, match=r'in_channels must be 12, .* in_index=\[0, 1\], got 13'):
        build(name, **arguments)(inputs(2))


def test_outputs_of_other_channels():
    with pytest.raises(
        ValueError, match=r'in_channels must be \[4, 8\], the channels of .*got \(4, 9\)'
    ):
        build('ACNet', in_channels=(4, 9))(inputs(2))


def test_a_prefix_names_the_argument():
    with pytest.raises(ValueError, match=r'context_index must be among .* 2 outputs, got -4'):
        check_features(inputs(1), -4, 8, prefix='context')
    with pytest.raises(
        ValueError, match=r'context_channels must be 8, the channels of .*context_index=1'
    ):
        check_features(inputs(1), 1, 6, prefix='context')


def test_one_value_a_channel_is_what_batch_norm_refuses():
    """That the heads refuse it, too, is in ``tests/heads/test_every_head.py``."""
    for norm, batch, size in ((None, 1, 1), ('GN', 1, 1), ('BN', 2, 1), ('BN', 1, 2), ('BN', 1, 4)):
        norm_cfg = norm and dict(type=norm, **(dict(num_groups=2) if norm == 'GN' else {}))
        check_norm_inputs(build('DMNet', norm_cfg=norm_cfg), *inputs(batch, size))
    head = build('DMNet', norm_cfg=dict(type='BN'))
    with pytest.raises(ValueError, match='DynamicMultiScaleHead cannot train on a batch of one'):
        check_norm_inputs(head, *inputs(1, 1))
    check_norm_inputs(head.eval(), *inputs(1, 1))


@pytest.mark.parametrize('name', HEADS)
def test_the_check_of_1x1_features_is_compiled_and_exported(name):
    head = build(name, norm_cfg=dict(type='BN'), dropout_ratio=0)
    compiled = torch.compile(head, fullgraph=True, backend='eager', dynamic=True)
    for batch, size in ((2, 4), (3, 5), (2, 1)):
        assert compiled(inputs(batch, size)).shape == (batch, 3, size, size)
    sizes = {0: torch.export.Dim('batch'), 2: torch.export.Dim('h'), 3: torch.export.Dim('w')}
    # CAC's forward takes any arguments, whose sizes are those of one tuple.
    sizes = [sizes, sizes] if name != 'CAC' else ([sizes, sizes],)
    program = torch.export.export(head, (inputs(2),), dynamic_shapes=(sizes,), strict=False)
    assert program.module()(inputs(3, 5)).shape == (3, 3, 5, 5)

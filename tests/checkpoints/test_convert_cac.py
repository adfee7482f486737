import copy
import re
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import load_checkpoint

from mmseg_ctx.checkpoints.conversion import restrict_to_model
from mmseg_ctx.checkpoints.convert_cac import convert_cac, convert_state_dict
from mmseg_ctx.datasets.scenes import CLASSES, PALETTE
from mmseg_ctx.utils.configs import config_path
from mmseg_ctx.utils.models import build
from tests.checkpoints.hostile.seeds import Calls
from tests.small_models import FCN, model_config

# What MMSegmentation 0.x called some of the parts, written down from its checkpoints.
RELEASED = {
    'cac-fcn_m-v2-d8_4xb4-160k_ade20k-512x512': [
        'backbone.layer2.0.conv.1.bn.running_var',
        'decode_head.conv_cat.conv.weight',
    ],
    'cac-deeplabv3plus_r50-d8_4xb4-160k_ade20k-512x512': [
        'backbone.stem.3.weight',
        'decode_head.aspp_modules.1.depthwise_conv.conv.weight',
        'decode_head.sep_bottleneck.1.pointwise_conv.bn.running_mean',
    ],
    'cac-upernet_r50_4xb4-160k_ade20k-512x512': [
        'decode_head.psp_modules.0.1.conv.weight',
        'decode_head.fpn_convs.2.bn.bias',
    ],
    'cac-upernet_swin-t_8xb2-160k_ade20k-512x512': [
        'backbone.patch_embed.projection.weight',
        'backbone.stages.0.blocks.0.attn.w_msa.relative_position_bias_table',
        'backbone.stages.1.blocks.0.ffn.layers.0.0.weight',
        'backbone.stages.0.downsample.reduction.weight',
    ],
    'cac-ocrnet_hr18_4xb4-160k_ade20k-512x512': [
        'backbone.stage4.2.fuse_layers.3.0.2.0.weight',
        'decode_head.0.conv_seg.bias',
        'decode_head.1.object_context_block.query_project.1.bn.weight',
    ],
}


def plain(model):
    """The config of a model without the classifier that is wrapped around its head."""
    heads = model.decode_head
    heads = [head.get('head', head) for head in heads] if isinstance(heads, list) else heads.head
    return copy.deepcopy({**model, 'decode_head': heads})


def authors_state_dict(model, prefix, device='meta'):
    """The state dict of the authors' model: that of the plain one, and two projectors."""
    state_dict = build(plain(model), device).state_dict()
    classes, width = state_dict[f'{prefix}conv_seg.weight'].shape[:2]
    assert classes == model.get('num_classes', classes)
    for projector in ('proj', 'apd_proj'):
        for name, shape in (
            ('0.weight', (width // 2, 2 * width)),
            ('2.weight', (width, width // 2)),
            ('2.bias', (width,)),
        ):
            state_dict[f'{prefix}{projector}.{name}'] = torch.randn(shape, device=device)
    return OrderedDict(state_dict)


def head_prefix(name):
    return 'decode_head.1.' if 'ocrnet' in name else 'decode_head.'


@pytest.mark.parametrize('name', RELEASED)
def test_the_released_models_become_ours(name):
    model = Config.fromfile(config_path(f'cac/{name}.py')).model
    prefix = head_prefix(name)
    source = authors_state_dict(model, prefix)
    assert set(RELEASED[name]) <= set(source)
    conversion = restrict_to_model(convert_state_dict(source), build(model))
    assert conversion.missing == []
    assert conversion.left_over == []
    assert conversion.renamed == {
        f'{prefix}{theirs}.{parameter}': f'{prefix}{ours}.{parameter}'
        for theirs, ours in (('proj', 'estimate_projector'), ('apd_proj', 'oracle_projector'))
        for parameter in ('0.weight', '2.weight', '2.bias')
    }


SMALL = model_config(dict(type='ContextAwareClassifierHead', head=FCN))


@pytest.fixture
def small(tmp_path):
    """A config file and a checkpoint as the authors' trainer writes it."""
    config = tmp_path / 'config.py'
    Config(dict(model=SMALL)).dump(config)
    state_dict = authors_state_dict(Config(SMALL), 'decode_head.', 'cpu')
    checkpoint = {
        'meta': {
            'mmseg_version': '0.30.0',
            'config': 'model = dict(...)',
            'CLASSES': CLASSES,
            'PALETTE': [list(colour) for colour in PALETTE],
            'iter': 160000,
            'hook_msgs': {'best_score': np.float64(0.4691)},
        },
        'state_dict': state_dict,
        'optimizer': {'state': {0: {'step': 3}}, 'param_groups': [{'lr': 6e-5, 'params': [0]}]},
    }
    source = tmp_path / 'iter_160000.pth'
    torch.save(checkpoint, source)
    return config, source, state_dict


def test_a_file_becomes_a_checkpoint_that_loads(small, tmp_path):
    config, source, state_dict = small
    destination = tmp_path / 'ours.pth'
    conversion = convert_cac(source, destination, config)
    assert conversion.missing == conversion.left_over == []
    model = build(Config(SMALL), device='cpu')
    checkpoint = load_checkpoint(model, str(destination), map_location='cpu', strict=True)
    assert set(checkpoint) == {'state_dict', 'meta'}
    assert checkpoint['meta']['dataset_meta']['classes'][3] == CLASSES[3]
    assert checkpoint['meta']['dataset_meta']['palette'][3] == list(PALETTE[3])
    for source_name, name in conversion.targets.items():
        assert torch.equal(model.state_dict()[name], state_dict[source_name])
    assert torch.equal(
        model.decode_head.oracle_projector[2].bias, state_dict['decode_head.apd_proj.2.bias']
    )


def test_names_that_are_missing_or_left_over_are_reported(small, tmp_path):
    config, source, state_dict = small
    del state_dict['decode_head.apd_proj.2.bias'], state_dict['backbone.stem.weight']
    state_dict['decode_head.queue.weight'] = torch.zeros(2)
    state_dict['ema_backbone_stem_weight'] = torch.zeros(2)
    torch.save(state_dict, source)
    alone = convert_cac(source, tmp_path / 'alone.pth', partial=True)
    assert alone.missing == ['decode_head.oracle_projector.2.bias']
    assert alone.left_over == ['ema_backbone_stem_weight']
    fitted = convert_cac(source, tmp_path / 'fitted.pth', config, partial=True)
    assert set(fitted.missing) == {'decode_head.oracle_projector.2.bias', 'backbone.stem.weight'}
    assert set(fitted.left_over) == {'ema_backbone_stem_weight', 'decode_head.queue.weight'}
    saved = torch.load(tmp_path / 'fitted.pth', weights_only=True)['state_dict']
    assert 'decode_head.queue.weight' not in saved
    assert any('missing: ' in line and 'stem' in line for line in fitted.report())


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda state: state.pop('backbone.stem.weight'), 'it lacks backbone.stem.weight '),
        (lambda state: state.pop('decode_head.proj.2.bias'), 'estimate_projector.2.bias '),
        (
            lambda state: state.update({'backbone.other.bias': torch.zeros(8)}),
            'the model has no place for backbone.other.bias ',
        ),
    ],
)
def test_refuses_part_of_a_model(change, message, small, tmp_path):
    config, source, state_dict = small
    change(state_dict)
    torch.save(state_dict, source)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        convert_cac(source, tmp_path / 'ours.pth', config)
    assert '--partial' in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before
    convert_cac(source, tmp_path / 'ours.pth', config, partial=True)


def without_projectors(state_dict):
    return {name: value for name, value in state_dict.items() if 'proj.' not in name}


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (without_projectors, r'no decode_head.proj and decode_head.apd_proj, but backbone\.'),
        (
            lambda state: {
                'decode_head.estimate_projector.0.weight': state['decode_head.proj.0.weight']
            },
            'has our names already, such as decode_head.estimate_projector.0.weight',
        ),
        (lambda state: {'state_dict': {}}, 'has no state dict'),
        (lambda state: {**state, 'decode_head.proj.0.weight': torch.zeros(2, 3)}, 'has the shape'),
        (
            lambda state: {'state_dict': state, 'meta': Calls(eval, "open('proof', 'w')")},
            'asks for .*eval',
        ),
    ],
)
def test_refuses_another_file_in_one_line(make, message, small, tmp_path, monkeypatch):
    config, source, state_dict = small
    monkeypatch.chdir(tmp_path)
    torch.save(make(state_dict), source)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=message) as caught:
        convert_cac(source, tmp_path / 'ours.pth', config)
    assert '\n' not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before

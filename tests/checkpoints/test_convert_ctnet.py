import json
import pickle
import zlib

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import load_checkpoint

from mmseg_ctx.checkpoints.conversion import restrict_to_model
from mmseg_ctx.checkpoints.ctnet import convert_arrays, convert_ctnet, released_model
from mmseg_ctx.utils.configs import config_path
from mmseg_ctx.utils.models import build
from tests.helpers import DATA, assert_relative

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def weight(name, shape):
    """The rule that the recorded network's arrays were made by."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith('_variance'):
        values = rng.uniform(0.8, 1.2, shape)
    elif name.endswith('_mean'):
        values = rng.normal(0, 0.1, shape)
    elif len(shape) == 1:
        weights = name.endswith('weight')
        values = rng.uniform(0.5, 1.0, shape) if weights else rng.normal(0, 0.05, shape)
    else:
        fan_in = np.prod(shape[1:]) if len(shape) > 2 else shape[0]
        values = rng.normal(0, np.sqrt(2 / fan_in), shape)
    return values.astype('float32')


def shapes_of(depth, jpu, num_classes=19, base=64, channels=512, key_channels=256, width=512):
    """The authors' names and shapes; ``base`` is the width of the backbone's first stage."""
    shapes = {}

    def norm(name, channels):
        shapes.update({f'{name}.{p}': [channels] for p in ('weight', 'bias', '_mean', '_variance')})

    def conv_norm(name, out, into, kernel, bias=False):
        shapes[f'{name}._conv.weight'] = [out, into, kernel, kernel]
        if bias:
            shapes[f'{name}._conv.bias'] = [out]
        norm(f'{name}._batch_norm', out)

    stages = [4 * base * 2**stage for stage in range(4)]
    if jpu:
        for level in (5, 4, 3):
            shapes[f'backbone.JPU.conv{level}.0.weight'] = [width, stages[level - 2], 3, 3]
            norm(f'backbone.JPU.conv{level}.1', width)
        for branch in range(1, 5):
            name = f'backbone.JPU.dilation{branch}'
            shapes[f'{name}.0.conv1.weight'] = [3 * width, 1, 3, 3]
            norm(f'{name}.0.bn', 3 * width)
            shapes[f'{name}.0.pointwise.weight'] = [width, 3 * width, 1, 1]
            norm(f'{name}.1', width)
    for i, (out, into) in enumerate([(base // 2, 3), (base // 2, base // 2), (base, base // 2)]):
        conv_norm(f'backbone.conv1_{i + 1}', out, into, 3)
    into = base
    for stage, blocks in enumerate(BLOCKS[depth]):
        for block in range(blocks):
            name, narrow = f'backbone.bb_{stage}_{block}', stages[stage] // 4
            conv_norm(f'{name}.conv0', narrow, into, 1)
            conv_norm(f'{name}.conv1', narrow, narrow, 3)
            conv_norm(f'{name}.conv2', stages[stage], narrow, 1)
            if block == 0:
                conv_norm(f'{name}.short', stages[stage], into, 1)
            into = stages[stage]
    for i, kernel in enumerate((9, 17, 33, 65)):
        shapes[f'head.ccm.ccm_layer.conv{i}.weight'] = [1, 1, kernel]
    shapes['head.ccm.ccm_layer.line.weight'] = [4, 1]
    conv_norm('head.ccm.fc1.0', num_classes, channels, 1, bias=True)
    block = 'head.scm.scm_block'
    conv_norm(f'{block}.f_query', key_channels, channels, 3, bias=True)
    conv_norm(f'{block}.f_key', key_channels, channels, 1, bias=True)
    conv_norm(f'{block}.f_value', key_channels, channels, 1, bias=True)
    conv_norm(f'{block}.f_up', channels, key_channels, 1, bias=True)
    conv_norm(f'{block}.fuse', channels, channels, 3, bias=True)
    conv_norm('head.scm.conv3x3.0', channels, channels, 3, bias=True)
    conv_norm('head.scm.conv1x1.0', channels, 2 * channels, 1, bias=True)
    conv_norm('head.conv3x3', channels, 4 * width if jpu else stages[3], 3, bias=True)
    shapes['head.cls_head.weight'] = [num_classes, channels, 1, 1]
    shapes['head.cls_head.bias'] = [num_classes]
    conv_norm('head.aux_head.0', stages[2], stages[2], 1, bias=True)
    shapes['head.aux_head.1.weight'] = [num_classes, stages[2], 1, 1]
    shapes['head.aux_head.1.bias'] = [num_classes]
    return shapes


SMALL = dict(num_classes=5, base=8, channels=48, key_channels=6, width=12)


def small_arrays(depth, jpu):
    return {name: weight(name, shape) for name, shape in shapes_of(depth, jpu, **SMALL).items()}


def small_config(depth, jpu):
    """Our base with the widths of ``SMALL``."""
    base = 'ctnet_r50v1d_jpu.py' if jpu else 'ctnet_r50v1d-d8.py'
    config = Config.fromfile(config_path(f'_base_/models/{base}'))
    config.merge_from_dict(
        dict(
            model=dict(
                backbone=dict(depth=depth, stem_channels=8, base_channels=8),
                decode_head=dict(
                    in_channels=48 if jpu else 256, channels=48, key_channels=6, num_classes=5
                ),
                auxiliary_head=dict(in_channels=128, channels=128, num_classes=5),
            )
        )
    )
    if jpu:
        config.merge_from_dict(dict(model=dict(neck=dict(in_channels=(64, 128, 256)))))
        config.model.neck.mid_channels = 12
    return config


def outputs_of(model, image):
    features = model.extract_feat(image)
    head_features, probabilities = model.decode_head.forward_context(features)
    return {
        'class_probabilities': probabilities,
        'seg_logits': model.decode_head.cls_seg(head_features),
        'aux_logits': model.auxiliary_head(features),
    }, features


@pytest.fixture
def write(tmp_path):
    def write(arrays, protocol=2):
        path = tmp_path / 'model.pdparams'
        path.write_bytes(pickle.dumps(arrays, protocol))
        return path

    return write


@torch.no_grad()
def test_the_whole_network_gives_the_recorded_outputs(write, tmp_path):
    recorded = np.load(DATA / 'ctnet_resnet50vd_jpu.npz')
    parameters = json.loads(str(recorded['parameters']))
    assert dict(parameters) == shapes_of(50, jpu=True)
    arrays = {name: weight(name, shape) for name, shape in parameters}
    source, destination = write(arrays, protocol=4), tmp_path / 'model.pth'
    conversion = convert_ctnet(source, destination)
    source.unlink()
    assert not conversion.missing
    assert not conversion.left_over
    assert set(conversion.renamed) == set(arrays)

    config = Config.fromfile(config_path('_base_/models/ctnet_r50v1d_jpu.py')).model
    config.decode_head.num_classes = config.auxiliary_head.num_classes = 19
    model = build(config, device='cpu').eval()
    load_checkpoint(model, str(destination), map_location='cpu', strict=True)
    destination.unlink()
    actual, features = outputs_of(model, torch.from_numpy(recorded['image']))
    actual['stage3'], actual['stage4'] = features[1][:, :16], features[2][:, :16]
    for name, value in actual.items():
        assert_relative(value, recorded[name], 1e-4)


def test_a_released_dilated_resnet101_is_recognised():
    # Arrays of zeros, which take no memory until they are written to.
    arrays = {name: np.zeros(shape, 'float16') for name, shape in shapes_of(101, False, 60).items()}
    model = released_model(arrays)
    assert model.backbone.depth == 101
    assert model.backbone.dilations == (1, 1, 2, 4)
    assert model.decode_head.num_classes == model.auxiliary_head.num_classes == 60
    conversion = restrict_to_model(convert_arrays(arrays), model)
    assert not conversion.missing
    assert not conversion.left_over


def test_names_that_are_missing_or_left_over_are_reported(write, tmp_path):
    arrays = small_arrays(50, True)
    del arrays['backbone.bb_0_0.conv0._conv.weight']
    del arrays['head.conv3x3._conv.bias']
    arrays['backbone.bb_0_9.conv0._conv.weight'] = arrays['backbone.bb_0_0.conv1._conv.weight']
    arrays['loss.weight'] = np.zeros(3, 'float32')
    config = tmp_path / 'config.py'
    small_config(50, True).dump(config)
    destination = tmp_path / 'model.pth'
    conversion = convert_ctnet(write(arrays), destination, config, partial=True)
    assert conversion.missing == ['backbone.layer1.0.conv1.weight']
    assert set(conversion.left_over) == {'backbone.bb_0_9.conv0._conv.weight', 'loss.weight'}
    saved = torch.load(destination, weights_only=True)['state_dict']
    assert set(saved) == set(conversion.state_dict) == set(conversion.targets.values())
    text = '\n'.join(conversion.report())
    assert 'missing: backbone.layer1.0.conv1.weight' in text
    assert 'loss.weight' in text
    assert 'head.cls_head.weight -> decode_head.conv_seg.weight' in text


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            lambda arrays: arrays.pop('head.ccm.fc1.0._batch_norm._mean'),
            r'lack head\.ccm\.fc1\.0\._batch_norm\._mean',
        ),
        (lambda arrays: arrays.pop('head.cls_head.weight'), 'not those of a CTNet'),
        (
            lambda arrays: [arrays.pop(name) for name in list(arrays) if 'bb_2_5' in name],
            'ResNet50_vd or ResNet101_vd, .* got 5',
        ),
        (lambda arrays: None, r'has the shape .* in the weights and .* in the model'),
    ],
)
def test_refuses_what_is_no_released_ctnet(change, message, write, tmp_path):
    arrays = small_arrays(50, True)
    change(arrays)
    with pytest.raises(ValueError, match=message) as caught:
        convert_ctnet(write(arrays), tmp_path / 'model.pth')
    assert '\n' not in str(caught.value)
    assert not (tmp_path / 'model.pth').exists()
    assert len(list(tmp_path.iterdir())) == 1

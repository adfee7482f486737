import json
import pickle
import zlib

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import load_checkpoint

from mmseg_ctx.checkpoints.conversion import restrict_to_model
from mmseg_ctx.checkpoints.convert_ctnet import convert_arrays, convert_ctnet, released_model
from mmseg_ctx.utils.configs import config_path
from mmseg_ctx.utils.models import build
from tests.helpers import DATA, assert_relative

# The authors' names and shapes of a network of 19 classes on a ResNet-50-vd with JPU.
SHAPES = dict(json.loads(str(np.load(DATA / 'ctnet_resnet50vd_jpu.npz')['parameters'])))


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


def small_arrays():
    """Arrays by the authors' names, of an eighth of their widths."""
    return {
        name: weight(name, [n if n % 8 or n < 32 else n // 8 for n in shape])
        for name, shape in SHAPES.items()
    }


def small_config():
    """Our base with the widths of these arrays."""
    config = Config.fromfile(config_path('_base_/models/ctnet_r50v1d_jpu.py'))
    widths = dict(
        backbone=dict(stem_channels=8, base_channels=8),
        neck=dict(in_channels=(64, 128, 256), mid_channels=64),
        decode_head=dict(in_channels=256, channels=64, key_channels=32, num_classes=19),
        auxiliary_head=dict(in_channels=128, channels=128, num_classes=19),
    )
    config.merge_from_dict(dict(model=widths))
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


@pytest.mark.slow
@torch.no_grad()
def test_the_whole_network_gives_the_recorded_outputs(write, tmp_path):
    recorded = np.load(DATA / 'ctnet_resnet50vd_jpu.npz')
    arrays = {name: weight(name, shape) for name, shape in SHAPES.items()}
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
    shapes = {name: shape for name, shape in SHAPES.items() if '.JPU.' not in name}
    for name in [name for name in shapes if '.bb_2_5.' in name]:
        shapes |= {name.replace('bb_2_5', f'bb_2_{i}'): shapes[name] for i in range(6, 23)}
    # Of 60 classes. Arrays of zeros take no memory until they are written to.
    arrays = {
        name: np.zeros([60 if size == 19 else size for size in shape], 'float16')
        for name, shape in shapes.items()
    }
    model = released_model(arrays)
    assert model.backbone.depth == 101
    assert model.backbone.dilations == (1, 1, 2, 4)
    assert model.decode_head.num_classes == model.auxiliary_head.num_classes == 60
    conversion = restrict_to_model(convert_arrays(arrays), model)
    assert not conversion.missing
    assert not conversion.left_over


def test_names_that_are_missing_or_left_over_are_reported(write, tmp_path):
    arrays = small_arrays()
    del arrays['backbone.bb_0_0.conv0._conv.weight']
    del arrays['head.conv3x3._conv.bias']
    arrays['backbone.bb_0_9.conv0._conv.weight'] = arrays['backbone.bb_0_0.conv1._conv.weight']
    arrays['loss.weight'] = np.zeros(3, 'float32')
    config = tmp_path / 'config.py'
    small_config().dump(config)
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
    arrays = small_arrays()
    change(arrays)
    with pytest.raises(ValueError, match=message) as caught:
        convert_ctnet(write(arrays), tmp_path / 'model.pth')
    assert '\n' not in str(caught.value)
    assert not (tmp_path / 'model.pth').exists()
    assert len(list(tmp_path.iterdir())) == 1

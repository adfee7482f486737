"""Labels, beside those that MMSegmentation's own segmentors make."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmseg.models.decode_heads import FCNHead
from mmseg.registry import MODELS
from torch import nn

from tests.segmentors.pairs import (
    HEADS_AND_CASCADES,
    MODES,
    assert_same_labels,
    data,
    noise,
    pair,
    photograph,
)
from tests.small_models import FCN, HEAD, model_config


@pytest.mark.parametrize('head', ['DAHead', 'EncHead'])
def test_of_heads_that_return_more_than_logits(head):
    stock, ours = pair(HEADS_AND_CASCADES[head])
    assert_same_labels(stock, ours, data([photograph(96, 128)], [(117, 150)]))


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('mode', MODES)
def test_at_sizes_that_no_stride_divides(mode, align_corners):
    stock, ours = pair(FCN | dict(align_corners=align_corners), **MODES[mode])
    for original in ((101, 147), (217, 301), (64, 71)):
        for image in (photograph, noise):
            assert_same_labels(stock, ours, data([image(101, 147)], [original]))


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('head', ['binary', 'OCRNet', 'CAC'])
def test_of_a_batch_of_padded_and_flipped_images(head, mode):
    stock, ours = pair(HEADS_AND_CASCADES[head], **MODES[mode])
    images = [photograph(101, 147), noise(101, 147)]
    for flip in (dict(), dict(flip=True, flip_direction='horizontal')):
        batch = data(images, [(101, 147), (77, 180)], **flip)
        assert_same_labels(stock, ours, batch)
    for model in (stock, ours):
        model.data_preprocessor.test_cfg = dict(size_divisor=32)
    batch = data(images, [(130, 90), (101, 147)], flip=True, flip_direction='vertical')
    assert_same_labels(stock, ours, batch)


@pytest.mark.parametrize('direction', ['diagonal', None])
def test_flip_that_cannot_be_turned_back(direction):
    _, ours = pair()
    batch = data([photograph(96, 128)], [(96, 128)], flip=True, flip_direction=direction)
    with pytest.raises(ValueError, match="flip_direction must be one of 'horizontal', 'vertical'"):
        ours.test_step(batch)


def test_of_k_net():
    # Its head has no threshold.
    widths = dict(in_channels=8, out_channels=8)
    update = dict(
        **dict(type='KernelUpdateHead', num_classes=14, num_heads=2, feedforward_channels=16),
        feat_transform_cfg=dict(conv_cfg=dict(type='Conv2d'), act_cfg=None),
        kernel_updator_cfg=dict(type='KernelUpdator', feat_channels=8, **widths),
        **dict(widths, conv_kernel_size=1),
    )
    heads = dict(kernel_generate_head=FCN, kernel_update_head=[update])
    head = dict(type='IterativeDecodeHead', num_stages=1, **heads)
    assert_same_labels(*pair(head, initial=True), data([photograph(96, 128)], [(117, 150)]))


def test_of_point_rend(monkeypatch):
    # Its one compiled operation is PyTorch's, with coordinates from 0 to 1.
    def point_sample(image, points, **options):
        return F.grid_sample(image, 2 * points[:, :, None] - 1, **options)[..., 0]

    monkeypatch.setattr('mmseg.models.decode_heads.point_head.point_sample', point_sample)
    head = {**HEAD, 'in_channels': [4], 'in_index': [0], 'norm_cfg': None}
    points = dict(subdivision_steps=2, subdivision_num_points=64, scale_factor=2)
    models = pair([FCN, dict(head, type='PointHead', num_fcs=1)], initial=True, **points)
    assert_same_labels(*models, data([photograph(96, 128)], [(117, 150)]))


@pytest.mark.parametrize('mode', MODES)
def test_without_data_samples(mode):
    stock, ours = pair(**MODES[mode])
    inputs = torch.stack([photograph(61, 83), noise(61, 83)])
    inputs = stock.data_preprocessor(dict(inputs=list(inputs)))['inputs']
    with torch.no_grad():
        expected, actual = (model(inputs, mode='predict') for model in (stock, ours))
    for mine, theirs in zip(actual, expected, strict=True):
        assert mine.keys() == ['pred_sem_seg']
        assert mine.pred_sem_seg.shape == (61, 83)
        assert (mine.pred_sem_seg.data == theirs.pred_sem_seg.data).float().mean() >= 0.9999


@pytest.mark.parametrize(
    ('size', 'windows'),
    [
        ((48, 64), dict(crop_size=(48, 64), stride=(31, 40))),  # one window
        ((40, 50), dict(crop_size=(48, 64), stride=(31, 40))),  # smaller than one
        ((96, 64), dict(crop_size=(48, 64), stride=(48, 64))),  # side by side
        ((97, 130), dict(crop_size=(32, 32), stride=(7, 11))),  # many of them at each pixel
        ((60, 60), dict(crop_size=(48, 48), stride=(50, 50))),  # the last one closes the gap
    ],
)
def test_windows(size, windows):
    stock, ours = pair(mode='slide', **windows)
    assert_same_labels(stock, ours, data([photograph(*size)], [(83, 91)]))


@pytest.mark.parametrize(('mode', 'dtype'), [('whole', torch.bfloat16), ('slide', torch.float16)])
def test_of_half_precision_logits_are_those_of_the_same_in_float32(mode, dtype):
    # MMSegmentation rounds after each resizing, and rounded logits are often equal.
    stock, ours = pair(**MODES[mode])
    resize = stock.decode_head.predict_by_feat
    stock.decode_head.predict_by_feat = lambda logits, metas: resize(logits.float(), metas)
    with torch.autocast('cpu', dtype):
        assert_same_labels(stock, ours, data([photograph(96, 128)], [(117, 150)]))


@MODELS.register_module(force=True)
class NearestHead(FCNHead):
    """Resizes its logits in its own way."""

    def predict_by_feat(self, seg_logits, batch_img_metas):
        return F.interpolate(seg_logits, batch_img_metas[0]['pad_shape'])


@MODELS.register_module(force=True)
class MaskingHead(FCNHead):
    """Changes the resized logits in place."""

    def predict(self, *args):
        logits = super().predict(*args)
        logits[:, 3, :40, :50] = 100
        return logits


@MODELS.register_module(force=True)
class QueryHead(nn.Module):
    """No decode head, as those of MaskFormer and Mask2Former, which are MMDetection's."""

    align_corners, num_classes, out_channels = False, 3, 3

    def predict(self, inputs, batch_img_metas, test_cfg):
        queries = inputs[2][:, :3]
        return F.interpolate(queries, batch_img_metas[0]['pad_shape'], mode='bicubic')


@pytest.mark.parametrize('name', ['NearestHead', 'MaskingHead', 'QueryHead'])
def test_of_a_head_with_a_prediction_of_its_own(name, messages):
    if name == 'QueryHead':
        stock, ours = pair(dict(type=name), initial=True)
    else:
        stock, ours = pair(dict(FCN, type=name))
    with torch.inference_mode():
        for _ in range(2):
            assert_same_labels(stock, ours, data([photograph(96, 128)], [(117, 150)]))
    # One line says which operation made the small logits large.
    line = '__setitem__ makes logits of the full size'
    assert messages == ([line] if name == 'MaskingHead' else [])


class TestKeptLogits:
    @pytest.mark.parametrize('mode', MODES)
    def test_are_those_of_the_stock_segmentor(self, mode):
        stock, ours = pair(keep_logits=True, **MODES[mode])
        batch = data([photograph(96, 128)], [(117, 150)])
        expected, actual = (model.test_step(copy.deepcopy(batch))[0] for model in (stock, ours))
        for field in ('seg_logits', 'pred_sem_seg'):
            torch.testing.assert_close(actual.get(field).data, expected.get(field).data)

    def test_may_be_asked_for_later(self):
        _, ours = pair()
        batch = data([photograph(96, 128)], [(117, 150)])
        assert 'seg_logits' not in ours.test_step(copy.deepcopy(batch))[0]
        ours.test_cfg.keep_logits = True
        (result,) = ours.test_step(copy.deepcopy(batch))
        assert 'seg_logits' in result
        ours.test_cfg.keep_logits = False
        batch['data_samples'] = [result]
        assert 'seg_logits' not in ours.test_step(batch)[0]


def test_keep_logits_is_a_bool():
    with pytest.raises(TypeError, match=r'test_cfg\.keep_logits must be True or False, got 1'):
        pair(keep_logits=1)


@pytest.mark.parametrize('test_cfg', [dict(mode='whole'), None])
def test_test_cfg_as_a_plain_dict_or_none(test_cfg):
    kind = 'MemoryEfficientEncoderDecoder'
    model = MODELS.build(model_config('FCN') | dict(test_cfg=test_cfg, type=kind)).eval()
    batch = data([photograph(96, 128)], [(117, 150)])
    assert model.test_step(batch)[0].pred_sem_seg.shape == (117, 150)


@pytest.mark.parametrize('classifier', ['prior', 'oracle'])
def test_of_the_evaluated_classifier(classifier):
    models = pair(HEADS_AND_CASCADES['CAC'])
    refined = models[0].test_step(data([photograph(88, 112)], [(110, 140)]))[0]
    labels = []
    for model in models:
        layer = model.decode_head.conv_seg
        label = torch.arange(4).repeat_interleave(35).expand(1, 110, 140)
        layer.evaluate(classifier, [label])
        result = model.test_step(data([photograph(88, 112)], [(110, 140)]))[0]
        labels.append(result.pred_sem_seg.data)
    assert len(labels[0].unique()) > 1
    assert (labels[0] == labels[1]).float().mean() >= 0.9999
    assert (labels[0] != refined.pred_sem_seg.data).any()


def test_oracle_classifier_by_windows_is_refused():
    _, ours = pair(HEADS_AND_CASCADES['CAC'], **MODES['slide'])
    label = torch.zeros(1, 96, 128, dtype=torch.long)
    ours.decode_head.conv_seg.evaluate('oracle', [label])
    with pytest.raises(ValueError, match=r"test_cfg mode 'whole'.*got 'slide'"):
        ours.test_step(data([photograph(96, 128)], [(96, 128)]))

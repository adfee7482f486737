"""Losses of whole models, beside those of MMSegmentation's own segmentors."""

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.registry import MODELS

from mmseg_ctx.analysis.benchmark import peak_memory
from tests.helpers import assert_relative
from tests.models import FCN, HEAD, HEADS, model_config, randomize
from tests.segmentors.models import data, photograph

STILL = dict(FCN, dropout_ratio=0)
OHEM = dict(type='OHEMPixelSampler', thresh=0.7, min_kept=500)
DECODERS = {
    'FCN': STILL,
    'CAC': dict(HEADS['CAC'], head=dict(HEADS['CAC']['head'], dropout_ratio=0)),
    'hard pixels': dict(STILL, sampler=OHEM),
    'cascade': [STILL, dict(type='OCRHead', ocr_channels=8, dropout_ratio=0, **HEAD)],
}
DICE = dict(STILL, loss_decode=dict(type='DiceLoss'))


def pair(head, auxiliary=None):
    """Return MMSegmentation's segmentor and ours in training mode, with the same weights."""
    config = model_config(head) | dict(auxiliary_head=auxiliary, train_cfg=ConfigDict())
    config['data_preprocessor']['size_divisor'] = 1
    stock = randomize(MODELS.build(copy.deepcopy(config)))
    ours = MODELS.build(config | dict(type='MemoryEfficient' + config['type']))
    ours.load_state_dict(stock.state_dict())
    return stock, ours


def batch(size=(61, 83)):
    images = data([photograph(*size), photograph(*size).flip(2)], [size] * 2)
    generator = torch.Generator().manual_seed(0)
    for sample in images['data_samples']:
        label = torch.randint(14, (1, *size), generator=generator)
        label[:, :4] = 255
        sample.gt_sem_seg = PixelData(data=label)
    return images


def losses_and_gradients(model):
    inputs = model.data_preprocessor(batch(), True)
    losses = model(**inputs, mode='loss')
    total, _ = model.parse_losses(losses)
    weights = [each for each in model.parameters() if each.requires_grad]
    return losses, torch.autograd.grad(total, weights, allow_unused=True)


@pytest.mark.parametrize('name', DECODERS)
def test_are_those_of_the_stock_segmentor(name):
    stock, ours = pair(DECODERS[name], [STILL, dict(STILL, in_index=1, in_channels=8)])
    (expected, gradients), (actual, ours_too) = map(losses_and_gradients, (stock, ours))
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        assert_relative(actual[key].detach(), value.detach(), 1e-5)
    for mine, theirs in zip(ours_too, gradients, strict=True):
        assert (mine is None) == (theirs is None)
        if theirs is not None:
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_a_loss_of_another_kind_gets_full_size_logits(messages):
    stock, ours = pair(STILL, [STILL, DICE])
    expected, actual = (losses_and_gradients(model)[0] for model in (stock, ours))
    torch.testing.assert_close(actual['aux_1.loss_dice'], expected['aux_1.loss_dice'])
    assert messages == ['sigmoid makes logits of the full size']


def test_memory():
    stock, ours = pair(dict(STILL, num_classes=96))
    inputs = ours.data_preprocessor(batch((256, 256)), True)

    def step(model):
        model.parse_losses(model(**inputs, mode='loss'))[0].backward()

    full = 4 * 2 * 96 * 256 * 256
    for model in (stock, ours):
        step(model)  # The gradients' memory is there from now on.
    assert peak_memory(lambda: step(stock)) > 2 * full
    assert peak_memory(lambda: step(ours)) < full / 3

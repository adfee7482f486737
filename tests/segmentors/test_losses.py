"""Losses of whole models, beside those of MMSegmentation's own segmentors."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import PixelData

from tests.helpers import assert_relative
from tests.segmentors.pairs import data, pair, photograph
from tests.small_models import FCN, HEAD

STILL = dict(FCN, dropout_ratio=0)
CASCADE = [STILL, dict(type='OCRHead', ocr_channels=8, dropout_ratio=0, **HEAD)]
SIZE = 61, 83


def losses_and_gradients(model):
    batch = data([photograph(*SIZE), photograph(*SIZE).flip(2)], [SIZE] * 2)
    generator = torch.Generator().manual_seed(0)
    for sample in batch['data_samples']:
        label = torch.randint(14, (1, *SIZE), generator=generator)
        label[:, :4] = 255
        sample.gt_sem_seg = PixelData(data=label)
    model.train_cfg, model.data_preprocessor.size_divisor = ConfigDict(), 1
    losses = model.train()(**model.data_preprocessor(batch, True), mode='loss')
    total, _ = model.parse_losses(losses)
    weights = [each for each in model.parameters() if each.requires_grad]
    return losses, torch.autograd.grad(total, weights, allow_unused=True)


@pytest.mark.parametrize('head', [STILL, CASCADE], ids=['FCN', 'cascade'])
@pytest.mark.parametrize('loss', ['CrossEntropyLoss', 'DiceLoss'])
def test_are_those_of_the_stock_segmentor(loss, head, messages):
    """Also of two auxiliary heads; a loss of another kind gets full-size logits."""
    auxiliary = dict(STILL, in_index=1, in_channels=8, loss_decode=dict(type=loss))
    stock, ours = pair(head, [STILL, auxiliary])
    (expected, gradients), (actual, ours_too) = map(losses_and_gradients, (stock, ours))
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        assert_relative(actual[key].detach(), value.detach(), 1e-5)
    for mine, theirs in zip(ours_too, gradients, strict=True):
        assert (mine is None) == (theirs is None)
        if theirs is not None:
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
    large = ['sigmoid makes logits of the full size']
    assert messages == (large if loss == 'DiceLoss' else [])

"""What predicting holds at most, beside MMSegmentation's own segmentors."""

import pytest
import torch

from mmseg_ctx.analysis.benchmark import peak_memory
from tests.segmentors.pairs import data, pair, photograph
from tests.small_models import FCN

CLASSES = 96
SMALL = 4 * CLASSES * 40 * 40  # bytes of the logits at 1/8 of the side of 320 pixels
LABEL = 8 * 320 * 320
WINDOWS = dict(mode='slide', crop_size=(64, 64), stride=(43, 43))  # 7 × 7 of them


@torch.no_grad()
def beyond_the_network(model, original=(320, 320)):
    """Return what ``predict`` holds at most when the small logits are there, without them.

    The network is replaced by logits, so that its own maps do not count.
    """
    inputs = torch.zeros(1, 3, 320, 320)
    samples = data([photograph(320, 320)], [original])['data_samples']
    generator = torch.Generator().manual_seed(0)

    def logits(features):
        return torch.randn(1, CLASSES, *features[0].shape[2:], generator=generator)

    model.extract_feat = lambda inputs: [inputs[:, :, ::8, ::8]]
    model.decode_head.conv_seg.forward = logits
    model.decode_head.forward = lambda features: model.decode_head.conv_seg(features)
    return peak_memory(lambda: model.predict(inputs, samples))


@pytest.mark.parametrize('original', [(411, 305), (160, 160)])
def test_of_whole_images_is_the_label_map_and_half_the_small_logits(original):
    stock, ours = pair(dict(FCN, num_classes=CLASSES))
    label = 8 * original[0] * original[1]
    full = 4 * CLASSES * original[0] * original[1]
    assert beyond_the_network(stock, original) > full
    # With them, 1.5 times the small logits; a tile is never smaller than some pixels.
    assert beyond_the_network(ours, original) < label + 1.5 * SMALL + 2**22


def test_of_windows_is_that_of_their_small_logits():
    stock, ours = pair(dict(FCN, num_classes=CLASSES), **WINDOWS)
    windows = 49 * 4 * CLASSES * 8 * 8
    assert beyond_the_network(stock) > 2 * 4 * CLASSES * 320 * 320
    assert beyond_the_network(ours) < LABEL + 1.5 * windows + 2**22

"""Test-time augmentation, beside MMSegmentation's own."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.registry import MODELS

from mmseg_ctx.analysis.benchmark import peak_memory
from tests.segmentors.pairs import (
    HEADS_AND_CASCADES,
    MODES,
    assert_same_labels,
    data,
    noise,
    pair,
    photograph,
)
from tests.small_models import FCN

FLIPS = (dict(), *(dict(flip=True, flip_direction=way) for way in ('horizontal', 'vertical')))


def augmented(stock, ours):
    """Return both segmentors as models with test-time augmentation."""
    return (
        MODELS.build(dict(type='SegTTAModel', module=stock)),
        MODELS.build(dict(type='MemoryEfficientSegTTAModel', module=ours)),
    )


def passes(images, scales=(0.5, 1.0, 1.25), flips=FLIPS):
    """Return a batch as a data loader gives it after TestTimeAug: a list of each pass's."""
    batches = []
    for scale in scales:
        for flip in flips:
            scaled = [F.interpolate(image[None], scale_factor=scale)[0] for image in images]
            batches.append(data(scaled, [tuple(image.shape[1:]) for image in images], **flip))
    return {key: [batch[key] for batch in batches] for key in batches[0]}


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('head', ['FCN', 'OCRNet', 'CAC'])
def test_labels(head, mode):
    batch = passes([photograph(101, 147), noise(101, 147)])
    assert_same_labels(*augmented(*pair(HEADS_AND_CASCADES[head], **MODES[mode])), batch)


def test_labels_of_a_binary_model():
    # MMSegmentation takes the sigmoid twice, which leaves it between 0.5 and 0.73.
    head = dict(HEADS_AND_CASCADES['binary'], threshold=0.62)
    assert_same_labels(*augmented(*pair(head)), passes([photograph(101, 147)]))


def test_labels_come_with_the_truth():
    _, model = augmented(*pair())
    batch = passes([photograph(101, 147)])
    truth = torch.zeros(1, 101, 147, dtype=torch.long)
    for samples in batch['data_samples']:
        samples[0].gt_sem_seg = PixelData(data=truth)
    (result,) = model.test_step(batch)
    assert torch.equal(result.gt_sem_seg.data, truth)
    assert sorted(result.keys()) == ['gt_sem_seg', 'pred_sem_seg']
    assert result.img_path == 'image.png'


def test_kept_logits_are_merged_as_before():
    models = augmented(*pair(keep_logits=True))
    expected, actual = (model.test_step(passes([photograph(101, 147)]))[0] for model in models)
    assert torch.equal(actual.pred_sem_seg.data, expected.pred_sem_seg.data)
    torch.testing.assert_close(actual.seg_logits.data, expected.seg_logits.data)


@pytest.mark.parametrize('head', ['FCN', 'binary'])
def test_the_stock_augmentation_of_our_segmentor_and_the_other_way_round(head):
    stock, ours = pair(HEADS_AND_CASCADES[head])
    models = [MODELS.build(dict(type='SegTTAModel', module=module)) for module in (stock, ours)]
    models.append(MODELS.build(dict(type='MemoryEfficientSegTTAModel', module=stock)))
    expected, *others = (model.test_step(passes([photograph(101, 147)]))[0] for model in models)
    for actual in others:
        same = actual.pred_sem_seg.data == expected.pred_sem_seg.data
        assert same.float().mean() >= 0.9999


def test_memory_of_passes_is_that_of_their_small_logits():
    _, model = augmented(*pair(dict(FCN, num_classes=64)))
    image = photograph(256, 256)
    small = 4 * 64 * 32 * 32
    peaks = []
    for flips in (FLIPS, FLIPS * 4):
        batch = passes([image], (1.0,), flips)
        peaks.append(peak_memory(lambda batch=batch: model.test_step(batch)))
    # What remains is the interpolations' indices and weights, of a few kilobytes.
    assert peaks[1] - peaks[0] <= 1.15 * 9 * small

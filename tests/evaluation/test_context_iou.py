"""The metric's groups against counts made pixel by pixel."""

import math

import pytest
import torch
from mmseg.evaluation import IoUMetric

from mmseg_ctx.evaluation import ContextIoUMetric

CLASSES = ('a', 'b', 'c', 'd', 'e')
META = dict(
    classes=CLASSES,
    context_classes=('b', 'd'),
    thin_classes=['e', 'unknown'],
    foreign_classes=('unknown',),
    num_classes='not a list',
    rare_classes=[['a']],
    no_classes=None,
    palette=[[0, 0, 0]] * 5,
)


def pictures(count=5, classes=5):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, classes, (count, 1, 7, 9), generator=generator)
    predictions = torch.randint(0, classes, (count, 1, 7, 9), generator=generator)
    predictions = torch.where(
        torch.rand(labels.shape, generator=generator) < 0.6, labels, predictions
    )
    labels[torch.rand(labels.shape, generator=generator) < 0.1] = 255
    return labels, predictions


def evaluate(metric, meta, labels, predictions):
    metric.dataset_meta = meta
    samples = [
        dict(gt_sem_seg=dict(data=label), pred_sem_seg=dict(data=prediction))
        for label, prediction in zip(labels, predictions, strict=True)
    ]
    metric.process({}, samples)
    return metric.evaluate(len(labels))


def naive_mean(labels, predictions, indices):
    """The mean IoU in percent of these classes, of those that occur, counted pixel by pixel."""
    ious = []
    for index in indices:
        intersection = union = 0
        pairs = zip(labels.flatten().tolist(), predictions.flatten().tolist(), strict=True)
        for label, prediction in pairs:
            if label != 255:
                intersection += label == index == prediction
                union += index in (label, prediction)
        if union:
            ious.append(intersection / union)
    return 100 * sum(ious) / len(ious)


def test_groups_against_a_count_of_pixels():
    labels, predictions = pictures()
    metrics = evaluate(ContextIoUMetric(), META, labels, predictions)
    assert set(metrics) == {'aAcc', 'mIoU', 'mAcc', 'mIoU_context', 'mIoU_thin'}
    for key, indices in {'mIoU': range(5), 'mIoU_context': (1, 3), 'mIoU_thin': (4,)}.items():
        assert metrics[key] == pytest.approx(naive_mean(labels, predictions, indices), abs=0.006)


def test_each_class_on_request():
    labels, predictions = pictures()
    metrics = evaluate(ContextIoUMetric(per_class=True), META, labels, predictions)
    for index, name in enumerate(CLASSES):
        expected = naive_mean(labels, predictions, [index])
        assert metrics[f'IoU_{name}'] == pytest.approx(expected, abs=0.006)


def test_a_class_that_never_occurs_is_left_out():
    labels, predictions = pictures(classes=4)
    metrics = evaluate(ContextIoUMetric(), META, labels, predictions)
    assert metrics['mIoU'] == pytest.approx(naive_mean(labels, predictions, range(5)), abs=0.006)
    assert math.isnan(metrics['mIoU_thin'])
    metrics = evaluate(ContextIoUMetric(nan_to_num=-1), META, labels, predictions)
    assert metrics['mIoU_thin'] == -100


@pytest.mark.parametrize('options', [dict(), dict(iou_metrics=['mDice', 'mFscore'])])
def test_without_groups_it_is_the_stock_metric(options):
    labels, predictions = pictures()
    meta = dict(classes=CLASSES, palette=META['palette'], label_map=None, reduce_zero_label=False)
    expected = evaluate(IoUMetric(**options), meta, labels, predictions)
    assert evaluate(ContextIoUMetric(**options), meta, labels, predictions) == expected

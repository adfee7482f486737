"""Every suite builds and runs, small."""

from dataclasses import replace

import pytest
import torch

from mmseg_ctx.analysis.benchmark import Setting, run_comparison
from mmseg_ctx.analysis.models import COMPARED
from mmseg_ctx.analysis.suites.cac import cac_cosine, cac_inference, cac_loss
from mmseg_ctx.analysis.suites.heads import ctnet_linear, heads
from mmseg_ctx.analysis.suites.memory_efficient import (
    OURS,
    STOCK,
    labels,
    labels_augmented,
    labels_slide,
    losses,
)
from mmseg_ctx.analysis.suites.steps import labelled_samples, training_step

CPU = Setting()


def measure(comparison, *names, setting=CPU):
    """Return the rows of a comparison's cases, of all or of those of these names."""
    cases = {name: comparison.cases[name] for name in names or comparison.cases}
    return run_comparison(replace(comparison, cases=cases), setting, repeats=1).rows


def test_labels_hold_as_many_classes_as_asked_for():
    samples = labelled_samples(torch.empty(2, 3, 8, 8), 150)
    assert [sample.gt_sem_seg.data.unique().numel() for sample in samples] == [12, 12]
    assert samples[0].gt_sem_seg.data.shape == (1, 64, 64)


def test_every_head_runs_forward_and_training():
    comparisons = heads((8,), channels=64, width=40)
    forward, training = (run_comparison(each, Setting(), repeats=1) for each in comparisons)
    for table in (forward, training):
        assert [row['case'] for row in table.rows] == list(COMPARED)
        assert {row['case']: row['error'] for row in table.rows} == dict.fromkeys(COMPARED)
    assert all(row['multiply_adds'] > 0 for row in forward.rows)


def test_a_head_that_refuses_channels_last_says_so():
    setting = Setting(memory_format='channels-last', dtype='bfloat16')
    _, training = heads((8,), channels=64, width=40)
    theirs, ours = measure(training, 'DMHead', 'DynamicMultiScaleHead', setting=setting)
    assert 'view' in theirs['error']
    assert ours['error'] is None


def test_training_step_leaves_no_gradients_and_reaches_all():
    module = torch.nn.Linear(3, 2)
    seen = []
    module.weight.register_post_accumulate_grad_hook(
        lambda weight: seen.append(weight.grad.clone())
    )

    def losses(x):
        return dict(loss_sum=module(x).sum(), acc_seg=torch.ones(()))

    step = training_step(losses, module, torch.ones(4, 3), setting=Setting())
    step()
    step()
    assert torch.equal(seen[0], torch.full((2, 3), 4.0))
    assert torch.equal(seen[1], seen[0])
    assert module.weight.grad is None


def test_spatial_context_grows_linearly_and_non_local_quadratically():
    tables = [
        run_comparison(each, Setting(), repeats=1)
        for each in ctnet_linear((16, 32, 64), channels=16)
    ]
    costs = {
        row['case']: [table.rows[place]['multiply_adds'] for table in tables]
        for place, row in enumerate(tables[0].rows)
    }
    memory = [[row['peak_bytes'] for row in table.rows] for table in tables]
    small, _, large = costs['SpatialContextModule']
    assert large / small < 16.01  # 16 times the pixels
    small, _, large = costs['NonLocal2d']
    assert large / small > 100
    ours, theirs = zip(*memory, strict=True)
    assert ours[2] / ours[0] < 17
    assert theirs[2] / theirs[0] > 100


def test_losses_of_cac_are_measured_with_and_without_cross_entropies():
    (comparison,) = cac_loss((8,), channels=16, classes=20)
    rows = {row['case']: row for row in measure(comparison)}
    assert not any(row['error'] for row in rows.values())
    full_size = 4 * 2 * 20 * 64**2  # bytes of the logits at the label's size
    peak = {name: row['peak_bytes'] for name, row in rows.items()}
    assert peak['cross-entropy'] > full_size
    assert peak['plain head'] > full_size
    assert peak['plain head, no cross-entropy'] < full_size
    assert peak['with CAC, no cross-entropy'] < full_size


def test_cosines_with_a_backward_pass_of_their_own_hold_less():
    (comparison,) = cac_cosine((16,), channels=64, classes=8)
    own, *plain = measure(comparison)
    features = 4 * 2 * 64 * 16**2
    assert all(row['error'] is None for row in (own, *plain))
    assert min(row['peak_bytes'] for row in plain) - own['peak_bytes'] > 0.9 * features


def test_losses_hold_less_than_those_of_mmsegmentation():
    comparisons = list(losses((16,)))
    assert len(comparisons) == 4
    for comparison in comparisons[2:]:  # of 150 classes
        stock, ours = measure(comparison, STOCK, OURS)
        assert stock['error'] is ours['error'] is None
        assert ours['peak_bytes'] < 0.5 * stock['peak_bytes']


@pytest.mark.parametrize(
    ('suite', 'size', 'number'),
    [(labels, 256, 4), (labels_slide, 320, 2), (labels_augmented, 96, 3)],
)
def test_labels_hold_less_than_those_of_mmsegmentation(suite, size, number):
    comparisons = list(suite((size,)))
    assert len(comparisons) == number
    stock, ours = measure(comparisons[-1], STOCK, OURS)
    assert stock['error'] is ours['error'] is None
    assert ours['peak_bytes'] < 0.5 * stock['peak_bytes']


def test_inference_with_and_without_cac():
    (comparison,) = cac_inference((64,))
    without, with_ = measure(comparison)
    assert without['error'] is with_['error'] is None
    assert 0 < with_['parameters'] - without['parameters'] <= 800_000
    assert list(with_['ratios']) == [without['case']]


def test_too_large_a_non_local_block_is_not_tried():
    (comparison,) = ctnet_linear((4096,))
    (row,) = measure(comparison, 'NonLocal2d')
    assert row['error'].startswith('needs')

"""Every suite builds and runs, small."""

import pytest
import torch

from mmseg_ctx.analysis.benchmark import Setting, run_comparison, select_cases
from mmseg_ctx.analysis.models import COMPARED
from mmseg_ctx.analysis.suites.cac import cac_cosine, cac_inference, cac_loss
from mmseg_ctx.analysis.suites.heads import ctnet_linear, heads
from mmseg_ctx.analysis.suites.labels import labels, labels_augmented, labels_slide
from mmseg_ctx.analysis.suites.losses import OURS, STOCK, losses
from mmseg_ctx.analysis.suites.steps import labelled_samples, training_step


def test_labels_hold_as_many_classes_as_asked_for():
    samples = labelled_samples(2, 64, 150)
    assert [sample.gt_sem_seg.data.unique().numel() for sample in samples] == [12, 12]
    assert samples[0].gt_sem_seg.data.shape == (1, 64, 64)


def test_every_head_runs_forward_and_training():
    comparisons = heads(Setting(sizes=(8,)), channels=64, width=40)
    forward, training = (run_comparison(each, Setting(), repeats=1) for each in comparisons)
    for table in (forward, training):
        assert [row['case'] for row in table.rows] == list(COMPARED)
        assert {row['case']: row['error'] for row in table.rows} == dict.fromkeys(COMPARED)
    assert all(row['multiply_adds'] > 0 for row in forward.rows)


def test_a_head_that_refuses_channels_last_says_so():
    setting = Setting(sizes=(8,), memory_format='channels-last', dtype='bfloat16')
    comparisons = list(heads(setting, channels=64, width=40))
    _, training = select_cases(comparisons, ['DMHead', 'DynamicMultiScaleHead'])
    theirs, ours = run_comparison(training, setting, repeats=1).rows
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
        for each in ctnet_linear(Setting(sizes=(16, 32, 64)), channels=16)
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
    (comparison,) = cac_loss(Setting(sizes=(8,)), channels=16, classes=20)
    rows = {row['case']: row for row in run_comparison(comparison, Setting(), repeats=1).rows}
    assert not any(row['error'] for row in rows.values())
    full_size = 4 * 2 * 20 * 64**2  # bytes of the logits at the label's size
    peak = {name: row['peak_bytes'] for name, row in rows.items()}
    assert peak['cross-entropy'] > full_size
    assert peak['plain head'] > full_size
    assert peak['plain head, no cross-entropy'] < full_size
    assert peak['with CAC, no cross-entropy'] < full_size


def test_cosines_with_a_backward_pass_of_their_own_hold_less():
    (comparison,) = cac_cosine(Setting(sizes=(16,)), channels=64, classes=8)
    own, *plain = run_comparison(comparison, Setting(), repeats=1).rows
    features = 4 * 2 * 64 * 16**2
    assert all(row['error'] is None for row in (own, *plain))
    assert min(row['peak_bytes'] for row in plain) - own['peak_bytes'] > 0.9 * features


def test_losses_hold_less_than_those_of_mmsegmentation():
    comparisons = list(losses(Setting(sizes=(16,))))
    assert len(comparisons) == 4
    for comparison in select_cases(comparisons[2:], [STOCK, OURS]):  # of 150 classes
        stock, ours = run_comparison(comparison, Setting(), repeats=1).rows
        assert stock['error'] is ours['error'] is None
        assert ours['peak_bytes'] < 0.5 * stock['peak_bytes']


@pytest.mark.parametrize(
    ('suite', 'size', 'number'),
    [(labels, 256, 4), (labels_slide, 320, 2), (labels_augmented, 96, 3)],
)
def test_labels_hold_less_than_those_of_mmsegmentation(suite, size, number):
    comparisons = select_cases(list(suite(Setting(sizes=(size,)))), [STOCK, OURS])
    assert len(comparisons) == number
    stock, ours = run_comparison(comparisons[-1], Setting(), repeats=1).rows
    assert stock['error'] is ours['error'] is None
    assert ours['peak_bytes'] < 0.5 * stock['peak_bytes']


def test_inference_with_and_without_cac():
    (comparison,) = cac_inference(Setting(sizes=(64,)))
    without, with_ = run_comparison(comparison, Setting(), repeats=1).rows
    assert without['error'] is with_['error'] is None
    assert 0 < with_['parameters'] - without['parameters'] <= 800_000
    assert list(with_['ratios']) == [without['case']]


def test_too_large_a_non_local_block_is_not_tried():
    (comparison,) = select_cases(list(ctnet_linear(Setting(sizes=(4096,)))), ['NonLocal2d'])
    (row,) = run_comparison(comparison, Setting(), repeats=1).rows
    assert row['error'].startswith('needs')


def test_selecting_an_unknown_case_names_the_known_ones():
    with pytest.raises(ValueError, match=r"FCNHead, PSPHead.*got 'fcn'"):
        select_cases(list(heads(Setting(sizes=(8,)), channels=64, width=40)), ['fcn'])

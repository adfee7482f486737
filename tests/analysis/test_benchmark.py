"""Pairing, spread and peak memory with steps whose cost is known, and each series, small."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from mmseg_ctx.analysis import benchmark
from mmseg_ctx.analysis.benchmark import Comparison, Setting, peak_memory, run_comparison
from mmseg_ctx.analysis.models import COMPARED
from mmseg_ctx.analysis.series.classifier import cac_inference, cac_loss
from mmseg_ctx.analysis.series.heads import ctnet_linear, heads
from mmseg_ctx.analysis.series.resizing import labels, labels_slide, losses
from mmseg_ctx.analysis.series.steps import OURS, STOCK, labelled_samples, training_step

MIB = 2**20


@pytest.fixture
def clock(monkeypatch):
    """A clock that only moves when a step says so."""
    now = [0.0]
    monkeypatch.setattr(benchmark, 'timer', lambda: now[0])

    def advance(duration):
        now[0] += duration

    return advance


def test_cases_take_turns_and_are_paired(clock):
    turns = []
    # The machine slows down from round to round; the ratio within a round stays.
    speed = iter([1, 1, 1, 1, 1, 2, 4, 8])

    def case(name, duration):
        def step():
            turns.append(name)
            if name == 'first':
                case.slow = next(speed)
            clock(duration * case.slow)

        return lambda setting: step

    comparison = Comparison(
        'Turns', dict(first=case('first', 2.0), second=case('second', 3.0)), ('first',)
    )
    seen = []
    first, second = run_comparison(comparison, Setting(), 5, seen.append).rows
    # One step warms up, one is for the memory.
    assert turns == ['first', 'first', 'second', 'second'] + ['first', 'second'] * 5 == seen
    assert first['rounds'] == [2.0, 2.0, 2.0, 4.0, 8.0]
    assert (first['seconds'], first['ratios']) == ([2.0, 2.0, 4.0], {})
    assert second['ratios'] == {'first': [1.5, 1.5, 1.5]}


def test_a_case_that_cannot_run_does_not_lose_the_others():
    def refuse():
        raise RuntimeError('view size is\nnot compatible')

    cases = dict(works=lambda setting: lambda: None, refuses=lambda setting: refuse)
    comparison = Comparison('Errors', cases, ('refuses', 'works'), ('general',))
    table = run_comparison(comparison, Setting(load=1), repeats=2)
    works, refuses = table.rows
    assert (len(works['rounds']), works['ratios']) == (2, {})
    assert (refuses['error'], refuses['seconds']) == ('view size is not compatible', None)
    assert table.facts[0] == 'general'
    assert 'beside 1 busy processes' in table.facts[1]


def test_peak_memory_is_what_lives_at_once():
    def step():
        first = torch.empty(MIB, dtype=torch.uint8)
        second = torch.empty(2 * MIB, dtype=torch.uint8)
        del first, second
        return torch.empty(MIB, dtype=torch.uint8)

    assert peak_memory(step) == 3 * MIB
    x = torch.rand(MIB // 4, requires_grad=True)

    def backward():
        y = x.exp()  # saved for the backward pass
        y.backward(torch.ones(()).expand_as(y))  # x.grad

    assert 2 * MIB <= peak_memory(backward) < 2.1 * MIB


def test_setting_places_weights_and_maps():
    setting = Setting(memory_format='channels-last', dtype='bfloat16')
    conv = setting.place(nn.Conv2d(4, 4, 3))
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)
    x = setting.place(torch.empty(1, 4, 8, 8, device='meta'))
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert setting.place(torch.rand(2, 3, 4)).is_contiguous()
    with setting.autocast():
        assert conv(x).dtype == torch.bfloat16
    with Setting().autocast():
        assert conv(x).dtype == torch.float32


def measure(comparison, *names):
    """Return the rows of a comparison's cases, of all or of those of these names, by name."""
    cases = {name: comparison.cases[name] for name in names or comparison.cases}
    rows = run_comparison(replace(comparison, cases=cases), Setting(), repeats=1).rows
    return {row['case']: row for row in rows}


def test_labels_hold_as_many_classes_as_asked_for():
    samples = labelled_samples(torch.empty(2, 3, 8, 8), 150)
    assert [sample.gt_sem_seg.data.unique().numel() for sample in samples] == [12, 12]
    assert samples[0].gt_sem_seg.data.shape == (1, 64, 64)


def test_training_step_leaves_no_gradients_and_reaches_all():
    module = nn.Linear(3, 2)
    seen = []
    module.weight.register_post_accumulate_grad_hook(
        lambda weight: seen.append(weight.grad.clone())
    )

    def losses(x):
        return dict(loss_sum=module(x).sum(), acc_seg=torch.ones(()))

    step = training_step(losses, module, torch.ones(4, 3), setting=Setting())
    step()
    step()
    assert torch.equal(torch.stack(seen), torch.full((2, 2, 3), 4.0))
    assert module.weight.grad is None


def test_every_head_runs_forward_and_training():
    forward, training = map(measure, heads((8,), channels=64, width=40))
    for rows in (forward, training):
        assert {name: row['error'] for name, row in rows.items()} == dict.fromkeys(COMPARED)
    assert all(row['multiply_adds'] > 0 for row in forward.values())


def test_spatial_context_grows_linearly_and_non_local_quadratically():
    tables = [measure(each) for each in ctnet_linear((16, 64), channels=16)]
    for name, least, most in (('SpatialContextModule', 10, 17), ('NonLocal2d', 100, 300)):
        for cost in ('multiply_adds', 'peak_bytes'):
            small, large = (rows[name][cost] for rows in tables)
            assert least < large / small < most  # at 16 times the pixels


def test_losses_of_cac_hold_less_than_the_plain_heads():
    (comparison,) = cac_loss((16,), channels=16)
    rows = measure(comparison)
    assert not any(row['error'] for row in rows.values())
    assert rows['with CAC']['peak_bytes'] < 0.5 * rows['plain head']['peak_bytes']


@pytest.mark.parametrize(
    ('series', 'size', 'number'),
    [(losses, 16, 4), (labels, 256, 4), (labels_slide, 160, 2)],
)
def test_ours_hold_less_than_mmsegmentations(series, size, number):
    comparisons = list(series((size,)))
    assert len(comparisons) == number
    rows = measure(comparisons[-1], STOCK, OURS)
    assert rows[STOCK]['error'] is rows[OURS]['error'] is None
    assert rows[OURS]['peak_bytes'] < 0.5 * rows[STOCK]['peak_bytes']


def test_inference_with_and_without_cac():
    (comparison,) = cac_inference((64,))
    without, with_cac = measure(comparison).values()
    assert 0 < with_cac['parameters'] - without['parameters'] <= 800_000
    assert list(with_cac['ratios']) == [without['case']]

"""Pairing, spread and peak memory with steps whose cost is known, and each series, small."""

from dataclasses import replace

import pytest
import torch

from mmseg_ctx.analysis import benchmark
from mmseg_ctx.analysis.benchmark import Comparison, Setting, peak_memory, run_comparison
from mmseg_ctx.analysis.compared import COMPARED
from mmseg_ctx.analysis.series import OURS, STOCK, ctnet_linear, heads, labels, labels_slide, losses

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


def measure(comparison, *names):
    """Return the rows of a comparison's cases, of all or of those of these names, by name."""
    cases = {name: comparison.cases[name] for name in names or comparison.cases}
    rows = run_comparison(replace(comparison, cases=cases), Setting(), repeats=1).rows
    return {row['case']: row for row in rows}


def test_every_head_runs_forward_and_training():
    for rows in map(measure, heads((8,), channels=64, width=40)):
        assert {name: row['error'] for name, row in rows.items()} == dict.fromkeys(COMPARED)


def test_spatial_context_grows_linearly_and_non_local_quadratically():
    tables = [measure(each) for each in ctnet_linear((16, 64), channels=16)]
    for name, least, most in (('SpatialContextModule', 10, 17), ('NonLocal2d', 100, 300)):
        small, large = (rows[name]['peak_bytes'] for rows in tables)
        assert least < large / small < most  # at 16 times the pixels


@pytest.mark.parametrize(
    ('series', 'size', 'number'), [(losses, 16, 4), (labels, 256, 4), (labels_slide, 160, 2)]
)
def test_ours_hold_less_than_mmsegmentations(series, size, number):
    comparisons = list(series((size,)))
    assert len(comparisons) == number
    rows = measure(comparisons[-1], STOCK, OURS)
    assert rows[STOCK]['error'] is rows[OURS]['error'] is None
    assert rows[OURS]['peak_bytes'] < 0.5 * rows[STOCK]['peak_bytes']

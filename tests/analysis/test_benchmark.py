"""Pairing, spread and peak memory, with steps whose cost is known."""

import gc

import pytest
import torch
from torch import nn

from mmseg_ctx.analysis import benchmark
from mmseg_ctx.analysis.benchmark import (
    Comparison,
    Setting,
    peak_memory,
    run_comparison,
)
from mmseg_ctx.utils.tables import render

MIB = 2**20


@pytest.fixture
def clock(monkeypatch):
    """A clock that only moves when a step says so."""
    now = [0.0]
    monkeypatch.setattr(benchmark.time, 'perf_counter', lambda: now[0])

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
    table = run_comparison(comparison, Setting(), repeats=5)
    assert turns == ['first', 'first', 'second', 'second'] + ['first', 'second'] * 5
    first, second = table.rows
    assert first['rounds'] == [2.0, 2.0, 2.0, 4.0, 8.0]
    assert first['seconds'] == [2.0, 2.0, 4.0]
    assert first['ratios'] == {}
    assert second['ratios'] == {'first': [1.5, 1.5, 1.5]}
    assert '1.500 (1.500–1.500)' in render([table], 'markdown')


def test_a_ratio_that_the_medians_contradict_is_named(clock):
    def case(*durations):
        durations = iter([1, 1, *durations])  # to warm up, for the memory
        return lambda setting: lambda: clock(next(durations))

    cases = dict(base=case(1.0, 2.0, 4.0), steady=case(1.1, 2.2, 4.4))
    table = run_comparison(Comparison('Steady', cases, ('base',)), Setting(), repeats=3)
    assert not any('outside' in fact for fact in table.facts)
    assert any('not the ratio of the two medians' in fact for fact in table.facts)
    cases = dict(base=case(1.0, 2.0, 4.0), shaken=case(2.0, 4.0, 1.0))
    table = run_comparison(Comparison('Shaken', cases, ('base',)), Setting(), repeats=3)
    assert table.rows[1]['ratios'] == {'base': [1.125, 2.0, 2.0]}
    assert table.facts[-1].startswith('shaken / base: the medians have the ratio 1.000, outside')


def test_the_notes_are_those_of_the_cases_that_are_shown():
    for shown in ('ab', 'b'):
        cases = dict.fromkeys(shown, lambda setting: lambda: None)
        comparison = Comparison('Notes', cases, (), ('general',), dict(a='of a', b='of b'))
        facts = run_comparison(comparison, Setting(), repeats=1).facts
        assert facts[: len(shown) + 1] == (*(f'of {case}' for case in shown), 'general')


def test_seconds_are_quartiles_of_the_rounds(clock):
    durations = iter([9.0, 9.0, 4.0, 1.0, 3.0, 2.0, 5.0])  # two to warm up and for the memory
    comparison = Comparison('Only', dict(only=lambda setting: lambda: clock(next(durations))), ())
    (row,) = run_comparison(comparison, Setting(), repeats=5).rows
    assert row['rounds'] == [4.0, 1.0, 3.0, 2.0, 5.0]
    assert row['seconds'] == [2.0, 3.0, 4.0]


def test_progress_is_called_before_each_step():
    seen = []
    comparison = Comparison('Progress', dict(only=lambda setting: lambda: None), ())
    run_comparison(comparison, Setting(), 3, seen.append)
    assert seen == ['only'] * 5


def test_a_case_that_cannot_run_does_not_lose_the_others():
    def refuse():
        raise RuntimeError('view size is\nnot compatible')

    cases = {
        'works': lambda setting: lambda: None,
        'refuses': lambda setting: refuse,
        'too large': lambda setting: lambda: None,
    }
    needed = {'too large': 2**60}
    comparison = Comparison('Errors', cases, ('refuses', 'works'), needed_bytes=needed)
    table = run_comparison(comparison, Setting(), repeats=2)
    works, refuses, too_large = table.rows
    assert len(works['rounds']) == 2
    assert works['ratios'] == {}
    assert refuses['error'] == 'view size is not compatible'
    assert refuses['seconds'] is None
    assert too_large['error'].startswith('needs 1073741824.0 GiB')
    assert 'not compatible' in render([table], 'text')


def test_peak_memory_is_that_of_what_lives_at_once():
    def step():
        first = torch.empty(MIB, dtype=torch.uint8)
        second = torch.empty(2 * MIB, dtype=torch.uint8)
        del first, second
        return torch.empty(MIB, dtype=torch.uint8)

    assert peak_memory(step) == 3 * MIB


def test_peak_memory_counts_gradients_and_what_backward_saves():
    x = torch.rand(MIB // 4, requires_grad=True)

    def step():
        y = x.exp()  # saved for the backward pass
        y.backward(torch.ones(()).expand_as(y))  # x.grad

    assert 2 * MIB <= peak_memory(step) < 2.1 * MIB


def test_peak_memory_leaves_out_what_was_there_before():
    held = [torch.empty(MIB, dtype=torch.uint8)]

    def step():
        held.clear()
        held.append(torch.empty(MIB // 2, dtype=torch.uint8))

    gc.collect()
    assert peak_memory(step) == MIB // 2


def test_a_block_from_an_earlier_profile_is_left_out_too():
    held = []
    peak_memory(lambda: held.append(torch.empty(MIB, dtype=torch.uint8)))

    def step():
        held.clear()
        held.append(torch.empty(MIB // 2, dtype=torch.uint8))

    assert peak_memory(step) == MIB // 2


def test_setting_places_weights_and_maps():
    setting = Setting(memory_format='channels-last', dtype='bfloat16')
    conv = setting.place(nn.Conv2d(4, 4, 3))
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)
    x = setting.place(torch.rand(1, 4, 8, 8))
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert setting.place(torch.rand(2, 3, 4)).is_contiguous()
    with setting.autocast():
        assert conv(x).dtype == torch.bfloat16
    with Setting().autocast():
        assert conv(x).dtype == torch.float32

"""The command lines of the tools that write tables, with their smallest runs."""

import json

import torch

from tests.helpers import exit_status
from tools import benchmark, benchmark_gpu, complexity


def test_benchmark(tmp_path, capsys):
    path = tmp_path / 'spatial.json'
    options = ('--sizes', 4, 6, '--repeats', 2, '--load', 1, '--format', 'json', '--out', path)
    cases = '--cases', 'SpatialContextModule'
    assert exit_status(benchmark.main, 'ctnet-linear', *options, *cases) == 0
    # Two sizes; a step to warm up, one for the memory, and two rounds.
    assert '8/8' in capsys.readouterr().err
    small, large = json.loads(path.read_text())
    assert small['title'] != large['title']
    (row,) = large['rows']
    assert row['case'] == 'SpatialContextModule'
    assert len(row['rounds']) == 2
    assert any('2 rounds' in fact for fact in large['facts'])


def test_complexity(tmp_path, capsys):
    path = tmp_path / 'heads.json'
    assert exit_status(complexity.main, 'heads', '--format', 'json', '--out', path) == 0
    (table,) = json.loads(path.read_text())
    assert {'model', 'parameters', 'multiply_adds'} == set(table['rows'][0])
    assert exit_status(complexity.main, 'heads', '--format', 'markdown') == 0
    assert '| head | parameters [M] | multiply-adds [G] |' in capsys.readouterr().out


def test_a_tiny_run_of_the_benchmark_of_gpus_has_every_row(tmp_path, monkeypatch):
    # What is compiled is the same function; compiling it takes longer than all else.
    monkeypatch.setattr(torch, 'compile', lambda function: function)
    file = tmp_path / 'table.json'
    options = ['--device', 'cpu', '--tiny', '--repeats', '1', '--format', 'json', '--out', file]
    benchmark_gpu.main(list(map(str, options)))
    (table,) = json.loads(file.read_text())
    kinds = [row['kind'] for row in table['rows']]
    counts = dict(step=2, cac=2, head=4, loss=3, labels=3)
    assert {kind: kinds.count(kind) for kind in kinds} == counts
    for row in table['rows']:
        for case in ('stock', 'ours'):
            assert row[case]['error'] is None, row
            assert row[case]['seconds'][1] > 0
        has_goal = row['kind'] in ('step', 'loss', 'labels')
        assert has_goal == (row['goal'] == 'reached' or '>' in row['goal'])

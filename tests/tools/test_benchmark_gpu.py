import json

import pytest
import torch

from tests.helpers import exit_status
from tools.benchmark_gpu import main


def test_a_tiny_run_on_the_cpu_has_every_row(tmp_path, monkeypatch):
    # What is compiled is the same function; compiling it takes longer than all else.
    monkeypatch.setattr(torch, 'compile', lambda function: function)
    file = tmp_path / 'table.json'
    options = ['--device', 'cpu', '--tiny', '--repeats', '1', '--format', 'json', '--out', file]
    main(list(map(str, options)))
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


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a CUDA device')
def test_needs_a_gpu(capsys):
    assert exit_status(main) == 2
    assert "must be one of cpu, got 'cuda'" in capsys.readouterr().err

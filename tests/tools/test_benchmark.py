"""The benchmark's command line, with its smallest run."""

import json

from tests.helpers import exit_status
from tools.benchmark import main


def test_tables_as_json(tmp_path, capsys):
    path = tmp_path / 'spatial.json'
    options = ('--sizes', 4, 6, '--repeats', 2, '--load', 1, '--format', 'json', '--out', path)
    assert exit_status(main, 'ctnet-linear', *options, '--cases', 'SpatialContextModule') == 0
    # Two sizes; a step to warm up, one for the memory, and two rounds.
    assert '8/8' in capsys.readouterr().err
    small, large = json.loads(path.read_text())
    assert small['title'] != large['title']
    (row,) = large['rows']
    assert row['case'] == 'SpatialContextModule'
    assert len(row['rounds']) == 2
    assert any('2 rounds' in fact for fact in large['facts'])

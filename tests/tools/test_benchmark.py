"""The benchmark's command line, with its smallest run."""

import json

import pytest

from tests.helpers import error_line, exit_status
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


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['unknown'], "'heads', "),
        (['heads', '--repeats', '0'], "--repeats: must be an integer >= 1, got '0'"),
        (['ctnet-linear', '--cases', 'NonLocal'], "NonLocal2d, got 'NonLocal'"),
    ],
)
def test_wrong_input_is_one_line_with_status_2(arguments, message, capsys):
    assert message in error_line(capsys, main, *arguments)

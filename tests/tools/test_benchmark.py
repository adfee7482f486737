"""The benchmark's command line, with its smallest run."""

import json
import re

import pytest

from mmseg_ctx.analysis.suites import SUITES
from tests.helpers import exit_status
from tools.benchmark import main


def test_tables_as_json(tmp_path, capsys):
    path = tmp_path / 'spatial.json'
    options = ('--sizes', 4, 6, '--repeats', 2, '--format', 'json', '--out', path)
    assert exit_status(main, 'ctnet-linear', *options, '--cases', 'SpatialContextModule') == 0
    assert (
        '8/8' in capsys.readouterr().err
    )  # the progress bar: two sizes, warm-up, memory and two rounds
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
        (
            ['ctnet-linear', '--cases', 'NonLocal'],
            "SpatialContextModule, NonLocal2d, got 'NonLocal'",
        ),
        (['heads', '--out', '/nowhere/table.md', '--sizes', '8'], '/nowhere'),
    ],
)
def test_wrong_input_is_one_line_with_status_2(arguments, message, capsys):
    assert exit_status(main, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('error: ')
    assert message in line


def test_help_has_each_suite_and_an_example(capsys):
    assert exit_status(main, '--help') == 0
    text = capsys.readouterr().out
    assert 'python tools/benchmark.py heads' in text
    for name, suite in SUITES.items():
        assert re.search(rf'^{name}: +{re.escape(suite.__doc__.splitlines()[0])}$', text, re.M)

"""The command line of the counts."""

import json

import pytest

from tests.helpers import error_line, exit_status
from tools.complexity import main


def test_a_table_is_written(tmp_path, capsys):
    path = tmp_path / 'heads.json'
    assert exit_status(main, 'heads', '--format', 'json', '--out', path) == 0
    (table,) = json.loads(path.read_text())
    assert {'model', 'parameters', 'multiply_adds'} == set(table['rows'][0])
    assert exit_status(main, 'heads', '--format', 'markdown') == 0
    assert '| head | parameters [M] | multiply-adds [G] |' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['both'], "papers, heads, got 'both'"),
        (['heads', '--memory', 'a.py'], "no TABLE, got 'heads'"),
        (['--memory', 'absent.py'], 'absent.py is not a file'),
    ],
)
def test_wrong_input_is_one_line_with_status_2(arguments, message, capsys):
    assert message in error_line(capsys, main, *arguments)

"""The command line of the counts."""

import json

import pytest

from tests.helpers import exit_status
from tools.complexity import main


def test_a_table_is_written_once(tmp_path, capsys):
    path = tmp_path / 'heads.json'
    options = ('heads', '--format', 'json', '--out', path)
    assert exit_status(main, *options) == 0
    (table,) = json.loads(path.read_text())
    assert {'model', 'parameters', 'multiply_adds'} == set(table['rows'][0])
    capsys.readouterr()
    assert exit_status(main, *options) == 2
    assert capsys.readouterr().err == f'error: {path} exists; --force overwrites it\n'
    assert exit_status(main, *options, '--force') == 0


def test_standard_output_is_markdown(capsys):
    assert exit_status(main, 'heads', '--format', 'markdown') == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == '| head | parameters [M] | multiply-adds [G] |'
    assert sum(line.startswith('| ContextTandemHead |') for line in lines) == 1


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['both'], "TABLE must be one of papers, heads, got 'both'"),
        (['--format', 'html'], "'text', 'markdown', 'json'"),
        (['heads', '--out', '/nowhere/heads.md'], '/nowhere'),
    ],
)
def test_wrong_input_is_one_line_with_status_2(arguments, message, capsys):
    assert exit_status(main, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('error: ')
    assert message in line


def test_help_has_an_example(capsys):
    assert exit_status(main, '--help') == 0
    assert 'python tools/complexity.py papers' in capsys.readouterr().out

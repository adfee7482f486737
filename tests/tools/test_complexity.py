"""The command line of the counts."""

import json

from tests.helpers import exit_status
from tools.complexity import main


def test_a_table_is_written(tmp_path, capsys):
    path = tmp_path / 'heads.json'
    assert exit_status(main, 'heads', '--format', 'json', '--out', path) == 0
    (table,) = json.loads(path.read_text())
    assert {'model', 'parameters', 'multiply_adds'} == set(table['rows'][0])
    assert exit_status(main, 'heads', '--format', 'markdown') == 0
    assert '| head | parameters [M] | multiply-adds [G] |' in capsys.readouterr().out

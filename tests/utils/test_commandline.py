"""The command line that the tools share."""

import argparse

import pytest

from mmseg_ctx.utils import commandline
from mmseg_ctx.utils.tables import Column, Table, render
from tests.helpers import exit_status

TABLE = Table('Costs', (Column('model', 'model'),), [dict(model='small')])


def test_a_tool_that_returns_ends_with_status_zero(monkeypatch, capsys):
    seen = []
    assert exit_status(seen.extend, 'a', 'b') == 0
    assert capsys.readouterr().err == ''
    monkeypatch.setattr('sys.argv', ['tool.py', 'x'])
    with pytest.raises(SystemExit):
        commandline.run(seen.extend)
    assert seen == ['a', 'b', 'x']


@pytest.mark.parametrize(
    ('error', 'status', 'text'),
    [
        (ValueError('size must be 1,\n  got 2'), 2, 'error: size must be 1, got 2\n'),
        (FileNotFoundError(2, 'No such file', 'a.pth'), 2, 'error: a.pth: No such file\n'),
        (ImportError('needs onnxruntime'), 2, 'error: needs onnxruntime\n'),
        (KeyboardInterrupt(), 130, 'interrupted\n'),
    ],
)
def test_wrong_input_is_one_line(error, status, text, capsys):
    def main(arguments):
        raise error

    assert exit_status(main) == status
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ('', text)


def test_cfg_options(capsys):
    parser = commandline.ArgumentParser(prog='tool.py')
    commandline.add_cfg_options(parser)
    options = parser.parse_args(['--cfg-options', 'a.b=1', 'c=[2,3]', '--cfg-options', 'd=x=y'])
    assert options.cfg_options == {'a.b': 1, 'c': [2, 3], 'd': 'x=y'}
    for wrong in ('foo', '=1'):
        assert exit_status(parser.parse_args, '--cfg-options', 'a=1', wrong) == 2
        assert f"KEY=VALUE, got '{wrong}'" in capsys.readouterr().err


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr('torch.cuda.device_count', lambda: 2)
    for text in ('cpu', 'cuda', 'cuda:0', 'cuda:1'):
        assert commandline.device(text) == text
    for text in ('gpu', 'cuda:', 'cuda:2', ''):
        with pytest.raises(argparse.ArgumentTypeError, match=f"cpu, cuda, .*, got '{text}'"):
            commandline.device(text)


def test_wrong_arguments_are_one_line_and_help_keeps_line_breaks(capsys):
    parser = commandline.ArgumentParser(
        prog='tool.py', epilog='example:\n    tool.py a \\\n        b'
    )
    parser.add_subparsers(required=True, dest='command').add_parser('sub').add_argument('source')
    for arguments in ([], ['--wrong', '1'], ['sub'], ['other']):
        assert exit_status(parser.parse_args, *arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith('error: ')
        assert '--help' in line
    assert exit_status(parser.parse_args, '--help') == 0
    assert 'tool.py a \\\n        b' in capsys.readouterr().out


def test_tables_go_to_standard_output_or_to_a_file_that_can_be_written(tmp_path, capsys):
    parser = commandline.ArgumentParser()
    commandline.add_table_options(parser)
    commandline.write_tables(lambda: [TABLE], parser.parse_args([]))
    assert capsys.readouterr().out == render([TABLE], 'text')
    path = tmp_path / 'table.md'
    options = ['--format', 'markdown', '--out', str(path)]
    commandline.write_tables(lambda: [TABLE], parser.parse_args(options))
    assert path.read_text() == render([TABLE], 'markdown')
    with pytest.raises(FileExistsError, match='--force'):
        commandline.write_tables(lambda: pytest.fail('measured'), parser.parse_args(options))
    commandline.write_tables(lambda: [TABLE], parser.parse_args([*options, '--force']))
    assert [entry.name for entry in tmp_path.iterdir()] == ['table.md']

import argparse
import importlib
import subprocess
import sys
import warnings

import pytest

from mmseg_ctx.utils.commandline import (
    ArgumentParser,
    add_cfg_options,
    add_table_options,
    device,
    integer,
    picture,
    progress_bar,
    run,
    write_tables,
)
from mmseg_ctx.utils.errors import value_errors
from mmseg_ctx.utils.tables import Column, Table, render
from tests.helpers import ROOT, exit_status

TABLE = Table('Costs', (Column('model', 'model'),), [dict(model='small')])


def raising(error):
    def main(arguments):
        raise error

    return main


def test_a_tool_that_returns_ends_with_status_zero(capsys):
    seen = []
    assert exit_status(seen.extend, 'a', 'b') == 0
    assert seen == ['a', 'b']
    assert capsys.readouterr().err == ''


def test_the_arguments_are_those_of_the_command_line(monkeypatch):
    monkeypatch.setattr('sys.argv', ['tool.py', 'x'])
    seen = []
    with pytest.raises(SystemExit):
        run(seen.extend)
    assert seen == ['x']


@pytest.mark.parametrize(
    ('error', 'text'),
    [
        (ValueError('size must be 1,\n  got 2'), 'error: size must be 1, got 2\n'),
        (FileNotFoundError(2, 'No such file or directory', 'a.pth'), None),
        (FileExistsError('a.pth exists'), 'error: a.pth exists\n'),
        (ImportError('needs onnxruntime'), 'error: needs onnxruntime\n'),
    ],
)
def test_wrong_input_is_one_line_and_status_two(error, text, capsys):
    assert exit_status(raising(error)) == 2
    captured = capsys.readouterr()
    assert captured.out == ''
    assert captured.err == (text or 'error: a.pth: No such file or directory\n')


def test_standard_output_that_cannot_be_written():
    code = 'from mmseg_ctx.utils.commandline import run; run(print, [])'
    with open('/dev/full', 'w') as full:
        result = subprocess.run(
            [sys.executable, '-c', code], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert result.returncode == 2
    assert result.stderr == 'error: [Errno 28] No space left on device\n'


def test_an_interruption_is_one_line(capsys):
    assert exit_status(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == 'interrupted\n'


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run(raising(ZeroDivisionError()), [])


def test_cfg_options(capsys):
    parser = ArgumentParser(prog='tool.py')
    add_cfg_options(parser)
    options = parser.parse_args(['--cfg-options', 'a.b=1', 'c=[2,3]', 'd=x=y'])
    assert options.cfg_options == {'a.b': 1, 'c': [2, 3], 'd': 'x=y'}
    options = parser.parse_args(['--cfg-options', 'a=1', '--cfg-options', 'b=2'])
    assert options.cfg_options == {'a': 1, 'b': 2}
    for arguments, error in (
        (['a=1', 'foo'], "--cfg-options must be KEY=VALUE, got 'foo'"),
        (['=1'], "--cfg-options must be KEY=VALUE, got '=1'"),
        (['a=1', 'b=2', 'a=3'], "--cfg-options: keys must differ, got 'a' more than once"),
        (
            ['a=1', '--cfg-options', 'a=1'],
            "--cfg-options: keys must differ, got 'a' more than once",
        ),
    ):
        with pytest.raises(SystemExit) as exit_:
            parser.parse_args(['--cfg-options', *arguments])
        assert exit_.value.code == 2
        assert capsys.readouterr().err == f'error: {error} (see tool.py --help)\n'


class Parsers(Exception):
    """Raised with the parser of a tool, in place of parsing."""


@pytest.mark.parametrize('tool', sorted(path.stem for path in (ROOT / 'tools').glob('*.py')))
def test_an_option_that_is_given_twice_keeps_the_values_of_both(tool, monkeypatch):
    """By default argparse drops those of the first."""

    def parse_args(self, arguments):
        raise Parsers(self)

    monkeypatch.setattr(ArgumentParser, 'parse_args', parse_args)
    with pytest.raises(Parsers) as error:
        importlib.import_module(f'tools.{tool}').main([])
    (parser,) = error.value.args
    for action in parser._actions:
        if action.nargs == '+' and action.option_strings:
            first = {'a': 1} if action.dest == 'cfg_options' else ['a']
            options = argparse.Namespace(**{action.dest: first})
            action(parser, options, ['b=2'])
            assert len(getattr(options, action.dest)) == 2


@pytest.mark.parametrize('text', ['0', '-1', '1.5', 'one', ''])
def test_an_integer_that_is_none_or_too_small(text):
    with pytest.raises(argparse.ArgumentTypeError, match=f"integer >= 1, got '{text}'"):
        integer(1)(text)


def test_an_integer():
    assert integer(1)('12') == 12
    assert integer(0)('0') == 0


def test_a_device_that_is_not_there(monkeypatch):
    assert device('cpu') == 'cpu'
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    with pytest.raises(argparse.ArgumentTypeError, match='no CUDA device'):
        device('cuda')
    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    monkeypatch.setattr('torch.cuda.device_count', lambda: 2)
    assert device('cuda') == 'cuda'
    assert [device(text) for text in ('cuda:0', 'cuda:1')] == ['cuda:0', 'cuda:1']
    with pytest.raises(argparse.ArgumentTypeError, match=r"at most 'cuda:1', got 'cuda:2'"):
        device('cuda:2')
    for text in ('gpu', 'cuda:', 'cuda:-1', 'cuda:01', 'cuda:1 ', 'cpu:0', 'CUDA', ''):
        with pytest.raises(argparse.ArgumentTypeError, match=f"or 'cuda:N', got '{text}'"):
            device(text)


@pytest.mark.parametrize('text', ['a.xyz', 'a', 'png'])
def test_a_picture_of_no_format(text):
    with pytest.raises(argparse.ArgumentTypeError, match=rf"one of .*\.png.*, got '{text}'"):
        picture(text)


def test_a_picture():
    assert [picture(text) for text in ('a.png', 'b/a.PDF')] == ['a.png', 'b/a.PDF']


def test_a_progress_bar_leaves_nothing_before_an_error(capsys):
    with progress_bar() as bar:
        list(bar.track(range(3)))
    assert '3/3' in capsys.readouterr().err

    def fail_half_way():
        with progress_bar() as bar:
            for _ in bar.track(range(3)):
                raise ValueError('wrong')

    with pytest.raises(ValueError, match='wrong'):
        fail_half_way()
    assert capsys.readouterr().err == ''


def test_the_advice_of_openmmlab_is_left_out():
    def main(arguments):
        for module in ('mmseg.models.losses', 'mmcv', 'mmengine.runner', 'mmseg_ctx', 'mine'):
            warnings.warn_explicit(module, UserWarning, 'file.py', 1, module)
        warnings.warn_explicit('later', FutureWarning, 'file.py', 1, 'mmcv')

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        assert not exit_status(main)
    assert [str(warning.message) for warning in seen] == ['mmseg_ctx', 'mine', 'later']


def test_what_an_input_raises_becomes_a_value_error():
    message = r'^a\.py is bad: ZeroDivisionError: division'
    with pytest.raises(ValueError, match=message), value_errors('a.py is bad'):
        1 / 0  # noqa: B018
    with value_errors('a.py is bad'):
        pass


@pytest.mark.parametrize('arguments', [[], ['--wrong', '1'], ['sub'], ['other']])
def test_wrong_arguments_are_one_line(arguments, capsys):
    parser = ArgumentParser(prog='tool.py')
    parser.add_subparsers(required=True, dest='command').add_parser('sub').add_argument('source')
    assert exit_status(parser.parse_args, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ')
    assert error.count('\n') == 1
    assert '--help' in error


def test_help_keeps_the_line_breaks_of_the_example(capsys):
    parser = ArgumentParser(epilog='Example:\n    tool.py a \\\n        b')
    assert exit_status(parser.parse_args, '--help') == 0
    assert 'tool.py a \\\n        b' in capsys.readouterr().out


def write_table(*options, measure=lambda: [TABLE]):
    parser = ArgumentParser()
    add_table_options(parser)
    write_tables(measure, parser.parse_args(options))


def test_tables_go_to_a_file_and_to_standard_output(tmp_path, capsys):
    write_table()
    assert capsys.readouterr().out == render([TABLE], 'text')
    path = tmp_path / 'table.md'
    options = ['--format', 'markdown', '--out', str(path)]
    write_table(*options)
    assert path.read_text() == render([TABLE], 'markdown')
    write_table(*options, '--force')
    assert [entry.name for entry in tmp_path.iterdir()] == ['table.md']


def test_tables_for_a_file_that_fails_late_are_not_lost(tmp_path, capsys):
    path = tmp_path / 'table.md'

    def measure():
        path.mkdir()
        (path / 'other').write_text('in the way')
        return [TABLE]

    with pytest.raises(IsADirectoryError) as error:
        write_table('--out', str(path), measure=measure)
    assert error.value.filename == str(path)
    assert capsys.readouterr().out == render([TABLE], 'text')
    assert [entry.name for entry in tmp_path.iterdir()] == ['table.md']


def test_a_file_that_exists_is_refused_before_anything_is_measured(tmp_path):
    path = tmp_path / 'table.md'
    path.write_text('kept')
    with pytest.raises(FileExistsError, match='--force'):
        write_table('--out', str(path), measure=lambda: pytest.fail('measured'))
    assert path.read_text() == 'kept'

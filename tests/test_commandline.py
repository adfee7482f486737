import os

import pytest

from mmseg_ctx.commandline import ArgumentParser, add_cfg_options, run, writing


def status_of(main, arguments=()):
    with pytest.raises(SystemExit) as exit_:
        run(main, list(arguments))
    return exit_.value.code


def raising(error):
    def main(arguments):
        raise error

    return main


def test_a_tool_that_returns_ends_with_status_zero(capsys):
    seen = []
    assert status_of(seen.extend, ['a', 'b']) in (None, 0)
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
    assert status_of(raising(error)) == 2
    captured = capsys.readouterr()
    assert captured.out == ''
    assert captured.err == (text or 'error: a.pth: No such file or directory\n')


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run(raising(ZeroDivisionError()), [])


def test_cfg_options(capsys):
    parser = ArgumentParser(prog='tool.py')
    add_cfg_options(parser)
    options = parser.parse_args(['--cfg-options', 'a.b=1', 'c=[2,3]', 'd=x=y'])
    assert options.cfg_options == {'a.b': 1, 'c': [2, 3], 'd': 'x=y'}
    with pytest.raises(SystemExit) as exit_:
        parser.parse_args(['--cfg-options', 'a=1', 'foo'])
    assert exit_.value.code == 2
    error = "error: --cfg-options must be KEY=VALUE, got 'foo' (see tool.py --help)\n"
    assert capsys.readouterr().err == error


@pytest.mark.parametrize('arguments', [[], ['--wrong', '1'], ['sub'], ['other']])
def test_wrong_arguments_are_one_line(arguments, capsys):
    parser = ArgumentParser(prog='tool.py')
    parser.add_subparsers(required=True, dest='command').add_parser('sub').add_argument('source')
    assert status_of(parser.parse_args, arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ')
    assert error.count('\n') == 1
    assert '--help' in error


def test_help_keeps_the_line_breaks_of_the_example(capsys):
    parser = ArgumentParser(epilog='Example:\n    tool.py a \\\n        b')
    assert status_of(parser.parse_args, ['--help']) == 0
    assert 'tool.py a \\\n        b' in capsys.readouterr().out


def test_the_file_appears_when_all_of_it_is_written(tmp_path):
    path = tmp_path / 'a.tar.gz'
    with writing(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == '.gz'
        temporary.write_text('half')
        assert not path.exists()
        temporary.write_text('whole')
    assert path.read_text() == 'whole'
    assert os.listdir(tmp_path) == ['a.tar.gz']


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
def test_after_an_exception_nothing_has_changed(error, tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('old')

    def write_half():
        with writing(path, force=True) as temporary:
            temporary.write_text('half')
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == 'old'
    assert os.listdir(tmp_path) == ['a.txt']


def test_an_existing_file_is_replaced_only_by_force(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('old')
    with pytest.raises(FileExistsError, match=r'a\.txt exists; --force'), writing(path):
        pass
    assert path.read_text() == 'old'
    with writing(path, force=True) as temporary:
        temporary.write_text('new')
    assert path.read_text() == 'new'


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(IsADirectoryError, match='is a folder'), writing(tmp_path, force=True):
        pass
    missing = tmp_path / 'missing' / 'a.txt'
    with pytest.raises(FileNotFoundError, match='missing'), writing(missing):
        pass

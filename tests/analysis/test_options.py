"""The output of the measuring tools."""

import pytest

from mmseg_ctx.analysis.options import add_output_options, output
from mmseg_ctx.utils.commandline import ArgumentParser
from mmseg_ctx.utils.tables import Column, Table, render

TABLE = Table('Costs', (Column('model', 'model'),), [dict(model='small')])


def _output(*options):
    parser = ArgumentParser()
    add_output_options(parser)
    with output(parser.parse_args(options)) as write:
        write([TABLE])


def test_output_to_a_file_and_to_standard_output(tmp_path, capsys):
    _output()
    assert capsys.readouterr().out == render([TABLE], 'text')
    path = tmp_path / 'table.md'
    options = ['--format', 'markdown', '--out', str(path)]
    _output(*options)
    assert path.read_text() == render([TABLE], 'markdown')
    _output(*options, '--force')
    assert [entry.name for entry in tmp_path.iterdir()] == ['table.md']


def test_output_to_a_file_that_fails_late_is_not_lost(tmp_path, capsys):
    path = tmp_path / 'table.md'
    parser = ArgumentParser()
    add_output_options(parser)

    def measure():
        with output(parser.parse_args(['--out', str(path)])) as write:
            path.mkdir()
            (path / 'other').write_text('in the way')
            write([TABLE])

    with pytest.raises(IsADirectoryError) as error:
        measure()
    assert error.value.filename == str(path)
    assert capsys.readouterr().out == render([TABLE], 'text')
    assert [entry.name for entry in tmp_path.iterdir()] == ['table.md']


def test_output_is_refused_before_anything_is_measured(tmp_path):
    parser = ArgumentParser()
    add_output_options(parser)
    path = tmp_path / 'table.md'
    path.write_text('kept')
    with (
        pytest.raises(FileExistsError, match='--force'),
        output(parser.parse_args(['--out', str(path)])),
    ):
        pytest.fail('measured')
    assert path.read_text() == 'kept'

"""Text, Markdown and JSON say the same."""

import json

import pytest

from mmseg_ctx.commandline import ArgumentParser
from mmseg_ctx.measure.table import (
    Column,
    Table,
    add_output_arguments,
    billions,
    millions,
    output,
    render,
)

TABLE = Table(
    'Costs',
    (Column('model', 'model'), Column('size', 'size [M]', millions)),
    [dict(model='small | plain', size=1_250_000, hidden=7), dict(model='none', size=None)],
    ('Measured.',),
)


def test_text_is_aligned():
    assert render([TABLE], 'text').splitlines() == [
        'Costs',
        '',
        'model          size [M]',
        '-------------  --------',
        'small | plain  1.25',
        'none',
        '',
        'Measured.',
    ]


def test_markdown_escapes_bars():
    assert render([TABLE], 'markdown').splitlines() == [
        '**Costs**',
        '',
        '| model | size [M] |',
        '| --- | --- |',
        '| small / plain | 1.25 |',
        '| none |  |',
        '',
        '- Measured.',
    ]


def test_json_has_the_rows_as_they_are():
    first, second = json.loads(render([TABLE, TABLE._replace(facts=())], 'json'))
    assert first == dict(title='Costs', rows=TABLE.rows, facts=['Measured.'])
    assert second['facts'] == []


def test_tables_are_separated_by_an_empty_line():
    assert '\n\nMeasured.\n\nCosts\n' in render([TABLE, TABLE], 'text')


def test_units():
    assert millions(7_110_000) == '7.11'
    assert billions(29_640_000_000) == '29.64'


def _output(*options):
    parser = ArgumentParser()
    add_output_arguments(parser)
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


def test_output_is_refused_before_anything_is_measured(tmp_path):
    parser = ArgumentParser()
    add_output_arguments(parser)
    path = tmp_path / 'table.md'
    path.write_text('kept')
    with (
        pytest.raises(FileExistsError, match='--force'),
        output(parser.parse_args(['--out', str(path)])),
    ):
        pytest.fail('measured')
    assert path.read_text() == 'kept'

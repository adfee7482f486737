"""Text, Markdown and JSON say the same."""

import json

from mmseg_ctx.utils.tables import Column, Table, billions, millions, render

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
        'model           size [M]',
        '────────────────────────',
        'small | plain   1.25',
        'none',
        '',
        'Measured.',
    ]


def test_text_is_neither_wrapped_nor_read_as_markup():
    row = dict(model='[bold]' + 'long ' * 40 + 'end', size=1e6)
    lines = render([TABLE._replace(rows=[row])], 'text').splitlines()
    assert lines[4] == row['model'] + '   1.00'


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

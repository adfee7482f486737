"""Text, Markdown and JSON say the same."""

from mmseg_ctx.utils.tables import Column, Table, millions, render

TABLE = Table(
    'Costs',
    (Column('model', 'model'), Column('size', 'size [M]', millions)),
    [dict(model='[small] | plain', size=1_250_000, hidden=7), dict(model='none', size=None)],
    ('Measured.',),
)


def test_text_is_a_grid_below_the_title_and_is_not_wrapped():
    title, *grid, fact = render([TABLE], 'text').splitlines()
    assert (title, fact) == ('Costs', 'Measured.')
    cells = [[cell.strip() for cell in line.split(' | ')] for line in grid if ' | ' in line]
    assert cells[0] == ['| model', 'size [M] |']
    assert cells[1] == ['| [small]', 'plain', '1.25     |']
    assert cells[2][0] == '| none'
    long = TABLE._replace(rows=[dict(model='long ' * 60 + 'end', size=1e6)])
    assert 'long ' * 60 + 'end' in render([long], 'text')


def test_markdown_escapes_bars():
    assert render([TABLE, TABLE], 'markdown').split('\n\n**')[0].splitlines() == [
        '**Costs**',
        '',
        '| model | size [M] |',
        '| --- | --- |',
        '| [small] / plain | 1.25 |',
        '| none |  |',
        '',
        '- Measured.',
    ]

"""Writes tables as text, Markdown or JSON, from rows that a program can use directly."""

import json
from collections.abc import Callable
from io import StringIO
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

FORMATS = ('text', 'markdown', 'json')
_ANY_WIDTH = 10**4  # lines are not wrapped, because the text also goes to files


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        key (str): The entry of a row that the column shows.
        title (str): Heading, with the unit.
        show (Callable[[object], str]): Turns the entry into text. Default: ``str``.
    """

    key: str
    title: str
    show: Callable = str


class Table(NamedTuple):
    """A table that ``render`` can write.

    Attributes:
        title (str): Title of the table.
        columns (Sequence[Column]): Columns from left to right.
        rows (Sequence[dict]): Rows from top to bottom. A cell is empty if its entry is missing or
            None. The JSON also has entries without a column.
        facts (Sequence[str]): Lines below the table. Default: none.
    """

    title: str
    columns: tuple
    rows: list
    facts: tuple = ()


def render(tables, style):
    """Return tables as text, one below the other.

    Args:
        tables (Sequence[Table]): The tables, at least one.
        style (str): ``'text'``, ``'markdown'``, or ``'json'`` for a list of objects with ``title``,
            ``rows`` and ``facts``.

    Returns:
        str: The text, which ends with a line break.
    """
    if style == 'json':
        content = [dict(title=each.title, rows=each.rows, facts=each.facts) for each in tables]
        return json.dumps(content, indent=1) + '\n'
    lines = _markdown_lines if style == 'markdown' else _text_lines
    return '\n'.join('\n'.join(lines(table)) + '\n' for table in tables)


def _markdown_lines(table):
    def line(cells):
        return f'| {" | ".join(cell.replace("|", "/") for cell in cells)} |'

    titles = [column.title for column in table.columns]
    rows = [line(cells) for cells in _cells(table)]
    facts = ['', *(f'- {fact}' for fact in table.facts)] if table.facts else []
    return [f'**{table.title}**', '', line(titles), line(['---'] * len(titles)), *rows, *facts]


def _text_lines(table):
    titles = [escape(column.title) for column in table.columns]
    grid = Grid(*titles, box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style='')
    for cells in _cells(table):
        grid.add_row(*map(escape, cells))
    text = StringIO()
    Console(file=text, width=_ANY_WIDTH, color_system=None, emoji=False).print(grid)
    facts = ['', *table.facts] if table.facts else []
    return [table.title, '', *map(str.rstrip, text.getvalue().splitlines()), *facts]


def _cells(table):
    return [
        ['' if row.get(key) is None else show(row[key]) for key, _, show in table.columns]
        for row in table.rows
    ]


def millions(value):
    """Return a count in millions (M), as text."""
    return f'{value / 1e6:.2f}'


def billions(value):
    """Return a count in billions (G), as text."""
    return f'{value / 1e9:.2f}'

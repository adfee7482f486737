"""Writes tables as text, Markdown or JSON, from rows that a program can use directly."""

import json
from collections.abc import Callable
from typing import NamedTuple

from prettytable import PrettyTable

FORMATS = ('text', 'markdown', 'json')


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
    return '\n'.join(_text(table, style == 'markdown') for table in tables)


def _text(table, markdown):
    rows = [
        ['' if row.get(key) is None else show(row[key]) for key, _, show in table.columns]
        for row in table.rows
    ]
    titles = [column.title for column in table.columns]
    if markdown:
        grid = [titles, ['---'] * len(titles), *rows]
        lines = [f'| {" | ".join(cell.replace("|", "/") for cell in row)} |' for row in grid]
        facts = ['', *(f'- {fact}' for fact in table.facts)] if table.facts else []
        lines = [f'**{table.title}**', '', *lines, *facts]
    else:
        grid = PrettyTable(titles, align='l')
        grid.add_rows(rows)
        lines = [table.title, grid.get_string(), *table.facts]
    return '\n'.join(lines) + '\n'


def millions(value):
    """Return a count in millions (M), as text."""
    return f'{value / 1e6:.2f}'


def billions(value):
    """Return a count in billions (G), as text."""
    return f'{value / 1e9:.2f}'

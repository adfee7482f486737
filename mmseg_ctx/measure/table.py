"""Tables as text, Markdown and JSON, from rows that a program can use as they are."""

import json
import sys
from collections.abc import Callable
from contextlib import contextmanager
from typing import NamedTuple

from mmseg_ctx.commandline import writing

FORMATS = ('text', 'markdown', 'json')


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        key (str): Which entry of a row it shows.
        title (str): Its heading, with the unit.
        show (Callable[[object], str]): From the entry to text. Default: ``str``.
    """

    key: str
    title: str
    show: Callable = str


class Table(NamedTuple):
    """What ``render`` writes.

    Attributes:
        title (str): What it shows.
        columns (Sequence[Column]): From left to right.
        rows (Sequence[dict]): From top to bottom. An entry that a row lacks, or that is None, stays
            empty; entries that no column shows are in the JSON.
        facts (Sequence[str]): Lines below the table. Default: none.
    """

    title: str
    columns: tuple
    rows: list
    facts: tuple = ()


def render(tables, style):
    """Write tables one below the other.

    Args:
        tables (Sequence[Table]): At least one.
        style (str): ``'text'``, ``'markdown'`` or ``'json'``: a list of objects with ``title``,
            ``rows`` and ``facts``.

    Returns:
        str: Ends with a line break.
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
    titles = [column.title for column in table.columns]
    cells = _cells(table)
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    rule = ['-' * width for width in widths]
    rows = [
        '  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (titles, rule, *cells)
    ]
    facts = ['', *table.facts] if table.facts else []
    return [table.title, '', *rows, *facts]


def _cells(table):
    return [
        ['' if row.get(key) is None else show(row[key]) for key, _, show in table.columns]
        for row in table.rows
    ]


def millions(value):
    """Show a count, of parameters say, in millions."""
    return f'{value / 1e6:.2f}'


def billions(value):
    """Show a count, of multiply-adds say, in billions (G)."""
    return f'{value / 1e9:.2f}'


def add_output_arguments(parser):
    """Give a tool's argument parser the options that ``output`` reads."""
    parser.add_argument('--format', choices=FORMATS, default='text', help='default: text')
    parser.add_argument('--out', metavar='FILE', help='write there, not to standard output')
    parser.add_argument('--force', action='store_true', help='overwrite FILE')


@contextmanager
def output(arguments):
    """Give the function that writes tables as the options of ``add_output_arguments`` say.

    A file that cannot be written is refused here, before anything is measured.

    Args:
        arguments (argparse.Namespace): The tool's arguments.

    Yields:
        Callable[[Sequence[Table]], None]: To be called once.
    """
    if arguments.out is None:
        yield lambda tables: sys.stdout.write(render(tables, arguments.format))
        return
    with writing(arguments.out, arguments.force) as temporary:
        yield lambda tables: temporary.write_text(render(tables, arguments.format))

"""Writes the tables of ``docs/reliability.md``: ``python -m tests.heads.reliability``."""

import inspect
import re

from tests.heads import test_every_head
from tests.helpers import ROOT

PAGE = ROOT / 'docs/reliability.md'
TABLES = re.compile(r'(?<=<!-- tables -->\n).*?(?=<!-- end of tables -->)', re.DOTALL)


def tables():
    """Return which cells there are, and what each asserts, as the tests have it."""
    conditions = {
        name.removeprefix('test_').replace('_', ' '): test
        for name, test in vars(test_every_head).items()
        if name.startswith('test_') and 'head' in inspect.signature(test).parameters
    }
    rows = [['condition', *test_every_head.HEADS], ['---'] * (1 + len(test_every_head.HEADS))]
    rows += [[name, *['✓'] * len(test_every_head.HEADS)] for name in conditions]
    rows += [[], ['condition', 'what a cell asserts', 'on'], ['---'] * 3]
    for name, test in conditions.items():
        takes_device = 'device' in inspect.signature(test).parameters
        text = ' '.join(inspect.getdoc(test).split())
        rows.append([name, text, 'CPU, CUDA' if takes_device else 'CPU'])
    lines = [f'| {" | ".join(row)} |' if row else '' for row in rows]
    return '\n'.join(['', *lines, '', ''])


if __name__ == '__main__':
    PAGE.write_text(TABLES.sub(lambda _: tables(), PAGE.read_text()))

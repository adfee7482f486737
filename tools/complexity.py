"""Count parameters and multiply-adds of every method; `--help` says more."""

from mmseg_ctx.analysis.complexity import heads_table, papers_table
from mmseg_ctx.utils.commandline import ArgumentParser, add_table_options, run, write_tables

TABLES = dict(papers=papers_table, heads=heads_table)
DESCRIPTION = """\
Count parameters and multiply-adds, including those of dynamic convolutions and matrix products.

papers: every method beside its baseline and the figure in its paper
heads:  the heads of this plugin and of MMSegmentation on the same features
"""
EXAMPLE = """\
example:
  python tools/complexity.py
  python tools/complexity.py papers --format markdown --out complexity.md
"""


def main(arguments):
    parser = ArgumentParser(description=DESCRIPTION, epilog=EXAMPLE)
    parser.add_argument('tables', nargs='*', metavar='TABLE', help='papers or heads; default: both')
    add_table_options(parser)
    arguments = parser.parse_args(arguments)
    for name in arguments.tables:
        if name not in TABLES:
            parser.error(f'TABLE must be one of {", ".join(TABLES)}, got {name!r}')
    write_tables(lambda: [TABLES[name]() for name in arguments.tables or TABLES], arguments)


if __name__ == '__main__':
    run(main)

"""Count parameters, multiply-adds and the memory of a training step; `--help` says more."""

from mmseg_ctx.analysis.complexity import heads_table, papers_table
from mmseg_ctx.analysis.memory import memory_table
from mmseg_ctx.utils.commandline import ArgumentParser, add_table_options, run, write_tables

TABLES = dict(papers=papers_table, heads=heads_table)
DESCRIPTION = """\
Count parameters and multiply-adds, also of dynamic convolutions and matrix products.

papers: every method beside its baseline and the figure in its paper
heads:  the heads of this plugin and of MMSegmentation on the same features

With --memory: what one training step of each config needs on each GPU, at the config's own batch
and crop, with the segmentor of this plugin and with MMSegmentation's. Nothing is computed, so this
takes seconds and no GPU. Not counted are tiles within an operation and workspaces of cuDNN, some
tens of MiB.
"""
EXAMPLE = """\
example:
  python tools/complexity.py
  python tools/complexity.py papers --format markdown --out complexity.md
  python tools/complexity.py --memory configs/cac/cac-upernet_r50_4xb4-160k_ade20k-512x512.py
"""


def main(arguments):
    parser = ArgumentParser(description=DESCRIPTION, epilog=EXAMPLE)
    parser.add_argument('tables', nargs='*', metavar='TABLE', help='papers or heads; default: both')
    parser.add_argument(
        '--memory',
        nargs='+',
        action='extend',
        metavar='CONFIG',
        help='count the memory of a training step of these configs instead',
    )
    add_table_options(parser)
    arguments = parser.parse_args(arguments)
    for name in arguments.tables:
        if name not in TABLES:
            parser.error(f'TABLE must be one of {", ".join(TABLES)}, got {name!r}')
    if arguments.memory and arguments.tables:
        parser.error(f'--memory counts configs, and no TABLE, got {arguments.tables[0]!r}')
    if arguments.memory:
        return write_tables(lambda: [memory_table(arguments.memory)], arguments)
    write_tables(lambda: [TABLES[name]() for name in arguments.tables or TABLES], arguments)


if __name__ == '__main__':
    run(main)

"""Train configs with several seeds on the context scenes; `--help` says more."""

import os
from pathlib import Path

from mmseg_ctx.analysis.study import execute, plan
from mmseg_ctx.analysis.study_report import refuse_other_files, write_report
from mmseg_ctx.analysis.study_suite import Row, read_suite, suite_names
from mmseg_ctx.utils.commandline import ArgumentParser, add_device, integer, progress_bar, run
from mmseg_ctx.utils.files import check_folder
from mmseg_ctx.utils.tables import render

DESCRIPTION = """\
Train a suite of configs with several seeds, and write DIR/study.md, study.json and study.png: each
metric of the suite, mean ± deviation over the seeds. study-curves.png is added where rows are
validated while they are trained.

Called again with the same DIR it goes on where it stopped: finished runs are kept, a run that was
cut short continues from its last checkpoint. The log of each run is in DIR/runs. The table has
every finished run in DIR, also of rows that this call leaves out.
"""
EXAMPLE = """\
example:
  python tools/study.py
  python tools/study.py --quick
  python tools/study.py --rows fcn dmnet cac-dmnet --seeds 0 1 --out work_dirs/small-study
  python tools/study.py --device cuda --jobs 4 --iterations 6000 --seeds 0 1 2 3 4
  python tools/study.py --configs my_model.py --seeds 0
"""


def main(arguments):
    arguments = parse(arguments)
    suite = read_suite(arguments.suite)
    rows, seeds, iterations = chosen(arguments, suite)
    out = Path(arguments.out or suite.out + ('-quick' if arguments.quick else ''))
    check_folder(out)
    refuse_other_files(out, arguments.force)
    runs = plan(rows, out, seeds, iterations, arguments.force)
    with progress_bar() as bar:
        task = bar.add_task('runs', total=len(runs))

        def progress(ended, error):
            if error:
                bar.console.print(f'{ended.name}, seed {ended.seed}: {error}', markup=False)
            bar.update(task, advance=1)
            write_report(suite, rows, out, picture=False)

        failed = execute(runs, arguments.jobs, arguments.device, progress)
    table = write_report(suite, rows, out)
    if table:
        print(render([table], 'text') + f'\n{out}/study.md, study.json, study.png')
    return 1 if failed else 0


def chosen(arguments, suite):
    """Return the rows, their seeds and their iterations, None for each row's own."""
    if arguments.configs:
        rows = [Row(Path(path).stem, path) for path in arguments.configs]
    elif arguments.quick:
        quick = suite.quick
        seeds, iterations = arguments.seeds or quick.seeds, arguments.iterations or quick.iterations
        return suite.select(quick.rows), seeds, iterations
    else:
        rows = suite.select(arguments.rows)
    return rows, arguments.seeds, arguments.iterations


def parse(arguments):
    cores = len(os.sched_getaffinity(0))
    parser = ArgumentParser(description=DESCRIPTION, epilog=EXAMPLE + describe_suites())
    parser.add_argument(
        '--suite',
        default='context-scenes',
        help=f'{", ".join(suite_names())}, or a table file of your own; default: %(default)s',
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        '--rows',
        nargs='+',
        default=[],
        metavar='ROW',
        help='rows or groups of rows; default: all but those that are named below as more',
    )
    choice.add_argument(
        '--quick', action='store_true', help='one row a method, in at most twenty minutes'
    )
    choice.add_argument('--configs', nargs='+', metavar='FILE', help='in place of the rows')
    parser.add_argument(
        '--seeds', nargs='+', type=integer(0), metavar='N', help="default: each row's own, three"
    )
    parser.add_argument('--iterations', type=integer(1), metavar='N', help="default: the rows'")
    parser.add_argument('--out', metavar='DIR', help="default: the suite's")
    add_device(parser)
    parser.add_argument(
        '--jobs',
        type=integer(1),
        default=cores,
        metavar='N',
        help='runs at a time; default: %(default)s, the processor cores',
    )
    parser.add_argument(
        '--force',
        action='store_true',
        help='train runs in DIR that had other settings anew, and overwrite a study.md, study.json '
        'or study.png in a DIR that is no study',
    )
    return parser.parse_args(arguments)


def describe_suites():
    """Return the lines of the help text with the rows of each suite."""
    lines = []
    for name in suite_names():
        suite = read_suite(name)
        default = ', '.join(row.name for row in suite.rows if row.by_default)
        lines += ['', f'{name}: {suite.title}. {suite.note}', f'  rows: {default}']
        if more := ', '.join(row.name for row in suite.rows if not row.by_default):
            lines.append(f'  more, where they are named: {more}')
        lines.append(f'  groups: {", ".join(suite.groups())}; folder: {suite.out}')
    return '\n'.join(lines)


if __name__ == '__main__':
    run(main)

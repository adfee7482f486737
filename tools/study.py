"""Train a suite of configs with several seeds; `--help` says more."""

import os
from pathlib import Path

from mmseg_ctx.analysis.study import (
    Row,
    execute,
    finished_results,
    groups,
    plan,
    read_suite,
    select,
    suite_names,
)
from mmseg_ctx.analysis.study_report import FILES, read_results, write_report
from mmseg_ctx.utils.commandline import ArgumentParser, add_device, integer, progress_bar, run
from mmseg_ctx.utils.files import check_folder, check_writable
from mmseg_ctx.utils.tables import render

DESCRIPTION = """\
Train a suite of configs with several seeds. DIR/study.md and study.json show each metric of the
suite, mean ± deviation over the seeds; study-curves.png shows the metrics against the iterations if
the suite validates its rows during training.

A second call with the same DIR keeps finished runs and continues an interrupted run from its last
checkpoint. DIR/runs has the log of each run. The table has every finished run in DIR, also those of
rows that the call does not name. study.json has all results of the finished runs, so that --from
writes the same report without DIR/runs.
"""
EXAMPLE = """\
example:
  python tools/study.py
  python tools/study.py --quick
  python tools/study.py --rows fcn dmnet cac-dmnet --seeds 0 1 --out work_dirs/small-study
  python tools/study.py --device cuda --jobs 4 --iterations 6000 --seeds 0 1 2 3 4
  python tools/study.py --configs my_model.py --seeds 0
  python tools/study.py --from work_dirs/study/study.json --out work_dirs/report
"""


def main(arguments):
    arguments = parse(arguments)
    suite = read_suite(arguments.suite)
    if arguments.configs:
        rows = [Row(Path(path).stem, path) for path in arguments.configs]
    else:
        rows = suite.quick if arguments.quick else select(suite.rows, arguments.rows)
    out = Path(arguments.out or suite.out + ('-quick' if arguments.quick else ''))
    check_folder(out)
    if out.is_dir():
        own = (out / 'runs').is_dir() and not arguments.redraw
        for name in FILES:
            check_writable(out / name, arguments.force or own)
    if arguments.redraw:
        results = read_results(*arguments.redraw)
        out.mkdir(parents=True, exist_ok=True)
        return show(write_report(suite, rows, results, out), out)
    runs = plan(rows, out, arguments.seeds, arguments.iterations, arguments.force)
    failed = False
    with progress_bar() as bar:
        task = bar.add_task('runs', total=len(runs))
        for ended, error in execute(runs, arguments.jobs, arguments.device):
            if error:
                failed = True
                name = f'{ended.parent.name}, seed {ended.name.removeprefix("seed")}'
                bar.console.print(f'{name}: {error}', markup=False)
            bar.update(task, advance=1)
            write_report(suite, rows, finished_results(out), out)
    show(write_report(suite, rows, finished_results(out), out), out)
    return 1 if failed else 0


def show(table, out):
    """Print a study's table, unless nothing was measured, and where the report is."""
    if table:
        print(render([table], 'text') + f'\n{out}/study.md, study.json')


def parse(arguments):
    cores = len(os.sched_getaffinity(0))
    parser = ArgumentParser(description=DESCRIPTION, epilog=EXAMPLE + describe_suites())
    parser.add_argument(
        '--suite',
        default='context-scenes',
        help=f'{", ".join(suite_names())}, or your own table file; default: %(default)s',
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        '--rows',
        nargs='+',
        action='extend',
        default=[],
        metavar='ROW',
        help='rows, or groups of rows, to train; default: the rows below without the further ones',
    )
    choice.add_argument(
        '--quick',
        action='store_true',
        help='train one row for each method, in at most twenty minutes',
    )
    choice.add_argument(
        '--configs',
        nargs='+',
        action='extend',
        metavar='FILE',
        help='configs to train in place of the rows',
    )
    choice.add_argument(
        '--from',
        dest='redraw',
        nargs='+',
        action='extend',
        type=Path,
        metavar='JSON',
        help='study.json of one or more studies to write one report from, without any training',
    )
    parser.add_argument(
        '--seeds',
        nargs='+',
        action='extend',
        type=integer(0),
        metavar='N',
        help="seeds; default: each row's own",
    )
    parser.add_argument(
        '--iterations',
        type=integer(1),
        metavar='N',
        help="length of each run; default: the row's own",
    )
    parser.add_argument('--out', metavar='DIR', help="folder of the study; default: the suite's")
    add_device(parser)
    parser.add_argument(
        '--jobs',
        type=integer(1),
        default=cores,
        metavar='N',
        help='number of runs at a time; default: %(default)s, the processor cores',
    )
    parser.add_argument(
        '--force',
        action='store_true',
        help='train runs anew that had other settings in DIR, and overwrite a study.md or '
        'study.json in a DIR that is no study',
    )
    return parser.parse_args(arguments)


def describe_suites():
    """Return the lines of the help text with the rows of each suite."""
    lines = []
    for name in suite_names():
        suite = read_suite(name)
        default = ', '.join(row.name for row in suite.rows if row.by_default)
        lines += ['', f'{name}: {suite.title}; {suite.note}', f'  rows: {default}']
        if more := ', '.join(row.name for row in suite.rows if not row.by_default):
            lines.append(f'  further rows: {more}')
        lines.append(f'  groups: {", ".join(groups(suite.rows))}; folder: {suite.out}')
    return '\n'.join(lines)


if __name__ == '__main__':
    run(main)

"""Train configs with several seeds on the context scenes; `--help` says more."""

import os
from pathlib import Path

from mmseg_ctx.analysis.study import execute, plan
from mmseg_ctx.analysis.study_report import refuse_other_files, write_report
from mmseg_ctx.analysis.study_rows import ROWS, Row
from mmseg_ctx.utils.commandline import ArgumentParser, device, integer, progress_bar, run
from mmseg_ctx.utils.tables import render

DESCRIPTION = """\
Train a set of configs with several seeds, and write DIR/study.md, study.json and study.png: mIoU
over all classes and over each group of the context scenes, mean ± deviation over the seeds.

Called again with the same DIR it goes on where it stopped: finished runs are kept, a run that was
cut short continues from its last checkpoint. The log of each run is in DIR/runs. The table has
every finished run in DIR, also of rows that this call leaves out.
"""
EXAMPLE = f"""\
example:
  python tools/study.py
  python tools/study.py --rows fcn dmnet cac-dmnet --seeds 0 1 --out work_dirs/small-study
  python tools/study.py --device cuda --jobs 4 --iterations 6000 --seeds 0 1 2 3 4
  python tools/study.py --configs my_model.py --seeds 0

rows, less than an hour on two cores of a CPU:
  {', '.join(row.name for row in ROWS if row.by_default)}
more rows, where they are named:
  {', '.join(row.name for row in ROWS if not row.by_default)}
"""


def main(arguments):
    arguments = parse(arguments)
    rows = [row for row in ROWS if row.by_default]
    if arguments.rows:
        rows = [row for row in ROWS if row.name in arguments.rows]
    if arguments.configs:
        rows = [Row(Path(path).stem, path) for path in arguments.configs]
    out = Path(arguments.out)
    refuse_other_files(out, arguments.force)
    runs = plan(rows, out, arguments.seeds, arguments.iterations, arguments.force)
    with progress_bar() as bar:
        task = bar.add_task('runs', total=len(runs))

        def progress(ended, error):
            if error:
                bar.console.print(f'{ended.name}, seed {ended.seed}: {error}', markup=False)
            bar.update(task, advance=1)
            write_report(rows, out, picture=False)

        failed = execute(runs, arguments.jobs, arguments.device, progress)
    table = write_report(rows, out)
    if table:
        print(render([table], 'text') + f'\n{out}/study.md, study.json, study.png')
    return 1 if failed else 0


def parse(arguments):
    cores = len(os.sched_getaffinity(0))
    names = [row.name for row in ROWS]
    parser = ArgumentParser(description=DESCRIPTION, epilog=EXAMPLE)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        '--rows', nargs='+', choices=names, metavar='ROW', help='default: those of an hour'
    )
    choice.add_argument('--configs', nargs='+', metavar='FILE', help='in place of the rows')
    parser.add_argument(
        '--seeds', nargs='+', type=integer(0), metavar='N', help="default: each row's own, three"
    )
    parser.add_argument('--iterations', type=integer(1), metavar='N', help="default: the configs'")
    parser.add_argument(
        '--out', default='work_dirs/study', metavar='DIR', help='default: %(default)s'
    )
    parser.add_argument('--device', type=device, default='cpu', help='cpu or cuda; default: cpu')
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


if __name__ == '__main__':
    run(main)

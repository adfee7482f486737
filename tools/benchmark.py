"""Measure time and peak memory, paired in one run; `--help` says more."""

import torch

from mmseg_ctx.analysis.benchmark import Setting, run_comparison
from mmseg_ctx.analysis.series import SERIES
from mmseg_ctx.utils.commandline import (
    ArgumentParser,
    add_device,
    add_table_options,
    integer,
    progress_bar,
    run,
    write_tables,
)

DESCRIPTION = f"""\
Measure time and peak memory. The cases of a comparison take turns, A B C A B C …. The table has the
median time of each case, and the median and quartiles of its ratio to others within a round.

{chr(10).join(f'{name + ":":18}{each.__doc__.splitlines()[0]}' for name, each in SERIES.items())}
"""
EXAMPLE = """\
example:
  python tools/benchmark.py heads --repeats 10 --format markdown --out heads.md
  python tools/benchmark.py cac-sizes --device cuda --dtype bfloat16 --sizes 512 1280 2560
  OMP_WAIT_POLICY=passive python tools/benchmark.py losses --load 2
  python tools/benchmark.py heads --cases DMHead APCHead ContextAdaptiveConvHead
"""


def main(arguments):
    arguments = parse(arguments)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    write_tables(lambda: measure_series(arguments), arguments)


def measure_series(arguments):
    """Return the tables of a series."""
    setting = Setting(arguments.device, arguments.dtype, arguments.memory_format, arguments.load)
    series = SERIES[arguments.series]
    comparisons = list(series(arguments.sizes) if arguments.sizes else series())
    if arguments.cases:
        comparisons = select_cases(comparisons, arguments.cases)
    # A case runs once to warm up, once for its memory, and then in each round.
    steps = (arguments.repeats + 2) * sum(len(each.cases) for each in comparisons)
    with progress_bar() as bar:
        task = bar.add_task('', total=steps)

        def progress(case):
            bar.update(task, advance=1, description=case)

        return [run_comparison(each, setting, arguments.repeats, progress) for each in comparisons]


def select_cases(comparisons, names):
    """Return the comparisons with only the cases of these names, without those left empty."""
    known = dict.fromkeys(name for each in comparisons for name in each.cases)
    for name in names:
        if name not in known:
            raise ValueError(f'cases must be among {", ".join(known)}, got {name!r}')
    for each in comparisons:
        each.cases = {name: each.cases[name] for name in each.cases if name in names}
    return [each for each in comparisons if each.cases]


def parse(arguments):
    parser = ArgumentParser(description=DESCRIPTION, epilog=EXAMPLE)
    parser.add_argument(
        'series', choices=SERIES, metavar='SERIES', help=f'one of {", ".join(SERIES)}'
    )
    parser.add_argument(
        '--cases',
        nargs='+',
        action='extend',
        metavar='NAME',
        help='cases to measure; default: all',
    )
    parser.add_argument(
        '--sizes',
        nargs='+',
        action='extend',
        type=integer(1),
        metavar='N',
        help="sizes to measure; default: the series'",
    )
    parser.add_argument(
        '--repeats', type=integer(1), default=20, metavar='N', help='number of rounds; default: 20'
    )
    add_device(parser)
    parser.add_argument(
        '--dtype',
        choices=('float32', 'bfloat16', 'float16'),
        default='float32',
        help='precision, by autocast; default: float32',
    )
    parser.add_argument(
        '--memory-format',
        choices=('contiguous', 'channels-last'),
        default='contiguous',
        help='memory format of inputs and weights; default: contiguous',
    )
    parser.add_argument(
        '--threads', type=integer(1), metavar='N', help="threads of the CPU; default: PyTorch's"
    )
    parser.add_argument(
        '--load',
        type=integer(0),
        default=0,
        metavar='N',
        help='processes that compete for the processor meanwhile; default: 0',
    )
    add_table_options(parser)
    return parser.parse_args(arguments)


if __name__ == '__main__':
    run(main)

"""Measure on a GPU what the kernels bring, in one table; `--help` says more."""

import time
from functools import partial
from itertools import product

import torch

from mmseg_ctx.analysis.benchmark import Comparison, Setting, mib, run_comparison
from mmseg_ctx.analysis.compared import feature_maps, head_config, mmseg_model, with_cac
from mmseg_ctx.analysis.series import (
    COMPILED,
    OURS,
    SEGMENTORS,
    STOCK,
    compare_labels,
    compare_losses,
    segmentor,
    training_step,
)
from mmseg_ctx.utils.commandline import (
    ArgumentParser,
    add_device,
    add_table_options,
    integer,
    run,
    write_tables,
)
from mmseg_ctx.utils.methods import HEAD_METHODS
from mmseg_ctx.utils.tables import Column, Table

DESCRIPTION = """\
Measure losses, labels and whole training steps on a GPU beside MMSegmentation's, as they are and
compiled by torch.compile. The cases of a row take turns; the table has medians. What is not
measured within --minutes is named below it.
"""
NAMES = {STOCK: 'stock', COMPILED: 'compiled', OURS: 'ours'}
GOALS = {'loss': (0.3, 0.1), 'labels': (0.5, None), 'step': (1.0, None)}  # of stock's time, memory


def main(arguments):
    parser = ArgumentParser(description=DESCRIPTION)
    add_device(parser)
    parser.set_defaults(device='cuda')
    parser.add_argument(
        '--minutes', type=float, default=7.0, help='when to begin no further row; default: 7'
    )
    parser.add_argument(
        '--repeats', type=integer(1), default=10, metavar='N', help='rounds of a row; default: 10'
    )
    parser.add_argument('--tiny', action='store_true', help='sizes for a test on the CPU')
    add_table_options(parser)
    arguments = parser.parse_args(arguments)
    write_tables(lambda: [measured(arguments)], arguments)


def measured(arguments):
    """Return the table of all rows that fit into the time."""
    end = time.monotonic() + 60 * arguments.minutes
    rows, left, facts = [], [], ()
    for kind, dtype, comparison in rows_of(arguments.tiny):
        if time.monotonic() > end:
            left.append(f'{comparison.title} ({dtype})')
            continue
        torch.compiler.reset()  # so that each row is compiled for its own sizes
        table = run_comparison(comparison, Setting(arguments.device, dtype), arguments.repeats)
        results = {NAMES[row['case']]: row for row in table.rows}
        row = dict(name=comparison.title, dtype=dtype, kind=kind, **results)
        rows.append({**row, 'goal': goal(row)})
        facts = table.facts[-2:]
    columns = [Column('name', 'what'), Column('dtype', 'type')]
    columns += [Column(name, f'{name} [ms]', milliseconds) for name in NAMES.values()]
    columns.append(Column('ours', 'ours / stock', ratio))
    columns += [Column(name, f'{name} [MiB]', memory) for name in NAMES.values()]
    columns.append(Column('goal', 'goal'))
    if left:
        facts = (*facts, f'No time was left for: {", ".join(left)}.')
    return Table('Losses, labels and training steps', columns, rows, facts)


def milliseconds(row):
    return row['error'] or f'{1000 * row["seconds"][1]:.2f}'


def ratio(row):
    return f'{row["ratios"][STOCK][1]:.3f}' if STOCK in row['ratios'] else ''


def memory(row):
    return '' if row['error'] else mib(row['peak_bytes'])


def goal(row):
    """Return in words whether a row reaches its goal; nothing without goal or figures."""
    stock, ours = row['stock'], row['ours']
    if row['kind'] not in GOALS or stock['error'] or ours['error']:
        return ''
    most_time, most_memory = GOALS[row['kind']]
    words = []
    if ours['ratios'][STOCK][1] > most_time:
        words.append(f'time > {most_time}')
    if most_memory is not None and ours['peak_bytes'] > most_memory * stock['peak_bytes']:
        words.append(f'memory > {most_memory}')
    return ', '.join(words) or 'reached'


def rows_of(tiny):
    """Yield kind, precision and comparison of each row of the table about a GPU.

    Those that compile nothing come first. ``tiny`` has sizes for a test on the CPU.
    """
    upernet = tiny_model() if tiny else mmseg_model('upernet/upernet_r50_4xb4-160k')
    side = 64 if tiny else 512
    images = torch.empty(2 if tiny else 4, 3, side, side, device='meta')
    size = (side, side)
    stock = partial(training_step, {**upernet, 'type': SEGMENTORS[STOCK]}, images, size)
    models = {'step': ('UPerNet-R50', upernet), 'cac': ('UPerNet-R50, CAC', with_cac(upernet))}
    for (kind, (name, model)), dtype in product(models.items(), ('float32', 'bfloat16')):
        ours = partial(training_step, {**model, 'type': SEGMENTORS[OURS]}, images, size)
        yield kind, dtype, Comparison(f'Training step: {name}', {STOCK: stock, OURS: ours}, [STOCK])
    channels, width = (16, 64) if tiny else (2048, 512)
    maps = feature_maps(2, side, channels)
    for name in (method.head for method in HEAD_METHODS.values()):
        models = {
            case: segmentor(STOCK, head_config(head, channels, width))
            for case, head in ((STOCK, 'DMHead'), (OURS, name))
        }
        cases = {case: partial(training_step, each, maps, size) for case, each in models.items()}
        yield 'head', 'float32', Comparison(f'Head: {name} beside DMHead', cases, [STOCK])
    shapes = [(2, (4, 4), 4)] if tiny else [(16, (64, 64), 8), (1, (512, 1024), 4)]
    counts, dtypes = (3,) if tiny else (19, 150), ('float32', 'bfloat16', 'float16')
    for (batch, small, stride), classes, dtype in product(shapes, counts, dtypes):
        kinds = STOCK, OURS, COMPILED
        yield 'loss', dtype, compare_losses(batch, classes, small, stride, kinds=kinds)
        size = tuple(stride * each for each in small)
        title = f'{batch} × {classes} classes, {size[0]}×{size[1]}'
        options = dict(kinds=kinds, down=stride)
        yield 'labels', dtype, compare_labels(title, batch, classes, size, size, **options)


def tiny_model():
    backbone = dict(type='ResNet', depth=18, base_channels=4, stem_channels=4)
    head = head_config('FCNHead', 32, 8, 3)
    return dict(backbone=backbone, decode_head=head, test_cfg=dict(mode='whole'))


if __name__ == '__main__':
    run(main)

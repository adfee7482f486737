"""Measure on a GPU what the kernels bring, in one table; `--help` says more."""

import time
from functools import partial
from itertools import product

import torch
import torch.nn.functional as F
from mmseg.models.losses import CrossEntropyLoss, accuracy
from mmseg.models.utils import resize

from mmseg_ctx.analysis.benchmark import Comparison, Setting, mib, run_comparison
from mmseg_ctx.analysis.models import head_config, head_inputs, mmseg_model, with_cac
from mmseg_ctx.analysis.series import head_step, labelled_samples, training_step
from mmseg_ctx.ops import (
    Interpolation,
    ResizedLogits,
    predicted_labels,
    upsampled_cross_entropy,
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
from mmseg_ctx.utils.models import build
from mmseg_ctx.utils.tables import Column, Table

DESCRIPTION = """\
Measure losses, labels and whole training steps on a GPU beside MMSegmentation's operations, as they
are and compiled by torch.compile. The cases of a row take turns; the table has medians. What is not
measured within --minutes is named below it.
"""
STOCK, COMPILED, OURS = 'stock', 'compiled', 'ours'
TYPES = ('float32', 'bfloat16', 'float16')
SHAPES = ((16, (64, 64), (512, 512)), (1, (512, 1024), (2048, 4096)))  # B, h and w, H and W
TINY = ((2, (4, 4), (16, 16)),)
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
    for kind, name, dtype, cases in rows_of(arguments.tiny):
        if time.monotonic() > end:
            left.append(f'{name} ({dtype})')
            continue
        setting = Setting(arguments.device, dtype)
        torch.compiler.reset()  # so that each row is compiled for its own sizes
        table = run_comparison(Comparison(name, cases, (STOCK,)), setting, arguments.repeats)
        results = {row['case']: row for row in table.rows}
        rows.append(dict(name=name, dtype=dtype, kind=kind, **results))
        facts = table.facts
    names = (STOCK, COMPILED, OURS)
    columns = [Column('name', 'what'), Column('dtype', 'type')]
    columns += [Column(name, f'{name} [ms]', milliseconds) for name in names]
    columns.append(Column(OURS, 'ours / stock', ratio))
    columns += [Column(name, f'{name} [MiB]', memory) for name in names]
    for row in rows:
        row['goal'] = goal(row)
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
    stock, ours = row[STOCK], row[OURS]
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
    """Yield kind, name, type and cases of each row; those that compile nothing come first."""
    upernet = tiny_model() if tiny else mmseg_model('upernet/upernet_r50_4xb4-160k')
    image = torch.empty(2 if tiny else 4, 3, *(2 * (32 if tiny else 512,)), device='meta')
    stock = partial(model_step, upernet, 'EncoderDecoder', image)
    models = {'step': ('UPerNet-R50', upernet), 'cac': ('UPerNet-R50 with CAC', with_cac(upernet))}
    for kind, (name, model) in models.items():
        ours = partial(model_step, model, 'MemoryEfficientEncoderDecoder', image)
        for dtype in TYPES[:2]:
            yield kind, f'training step, {name}', dtype, {STOCK: stock, OURS: ours}
    channels, width, pixels = (16, 64, 32) if tiny else (2048, 512, 512)
    for name in (method.head for method in HEAD_METHODS.values()):
        cases = {}
        for case, head in ((STOCK, 'DMHead'), (OURS, name)):
            config = head_config(head, channels, width)
            inputs = head_inputs(config, batch=2, image=pixels, channels=channels)
            cases[case] = partial(head_step, config, inputs)
        yield 'head', f'head, {name} beside DMHead', 'float32', cases
    for (batch, small, size), classes, dtype in product(
        TINY if tiny else SHAPES, (3,) if tiny else (19, 150), TYPES
    ):
        shape = f'{batch} × {classes} classes, {small[0]}×{small[1]} to {size[0]}×{size[1]}'
        logits = torch.empty(batch, classes, *small, device='meta')
        loss_cases = {
            STOCK: partial(loss_step, stock_loss, logits, size),
            OURS: partial(loss_step, our_loss, logits, size),
            COMPILED: partial(loss_step, torch.compile(stock_loss), logits, size),
        }
        yield 'loss', f'loss, {shape}', dtype, loss_cases
        label_cases = {
            STOCK: partial(label_step, stock_labels, logits, size),
            OURS: partial(label_step, our_labels, logits, size),
            COMPILED: partial(label_step, torch.compile(stock_labels), logits, size),
        }
        yield 'labels', f'labels, {shape}', dtype, label_cases


def tiny_model():
    backbone = dict(type='ResNet', depth=18, base_channels=4, stem_channels=4)
    head = head_config('FCNHead', 32, 8, 3)
    return dict(
        type='EncoderDecoder', backbone=backbone, decode_head=head, test_cfg=dict(mode='whole')
    )


def stock_loss(logits, label):
    full = resize(logits, label.shape[1:], mode='bilinear', align_corners=False, warning=False)
    return CrossEntropyLoss()(full.float(), label, ignore_index=255), accuracy(full, label)


def our_loss(logits, label):
    return upsampled_cross_entropy(logits, label, with_accuracy=True)


def loss_step(function, logits, size, setting):
    """Return the step of a loss with its accuracy, and of the gradient of the small logits."""
    logits = setting.place(logits).to(getattr(torch, setting.dtype)).requires_grad_()
    label = torch.randint(0, logits.size(1), (len(logits), *size), device=setting.device)
    label[:, : size[0] // 20] = 255

    def step():
        loss, _ = function(logits, label)
        loss.backward()
        logits.grad = None

    return step


def stock_labels(logits, size):
    return F.interpolate(logits, size, mode='bilinear').argmax(1)


def our_labels(logits, size):
    like = logits.new_empty(0, dtype=torch.float32)
    sides = [
        [Interpolation.identity(cells, like).resize(length, align_corners=False)]
        for cells, length in zip(logits.shape[2:], size, strict=True)
    ]
    return [predicted_labels(ResizedLogits([[image]], *sides)) for image in logits]


def label_step(function, logits, size, setting):
    """Return the step of the labels of a batch."""
    logits = setting.place(logits).to(getattr(torch, setting.dtype))
    return torch.no_grad()(lambda: function(logits, size))


def model_step(config, kind, images, setting):
    """Return the training step of a whole model, whose batch norms are of one process."""
    model = build(one_process({**config, 'type': kind, 'data_preprocessor': None}), setting.device)
    samples = labelled_samples(images[..., ::8, ::8], model.decode_head.num_classes, setting.device)
    return training_step(lambda images: model.loss(images, samples), model, images, setting=setting)


def one_process(config):
    """Return a config with ``BN`` in the place of ``SyncBN``, which needs several processes."""
    if isinstance(config, dict):
        return {key: one_process(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(map(one_process, config))
    return 'BN' if config == 'SyncBN' else config


if __name__ == '__main__':
    run(main)

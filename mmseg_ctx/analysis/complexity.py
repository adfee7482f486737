"""Parameters and multiply-adds, dynamic convolutions and matrix products included.

The tables show what every method costs beside its baseline and the paper's figure, and the heads
side by side. Their models are on the meta device: nothing is computed and no memory is needed.
"""

from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from mmseg_ctx.analysis import compared
from mmseg_ctx.utils.methods import METHODS
from mmseg_ctx.utils.models import build
from mmseg_ctx.utils.tables import Column, Table, billions, millions

COLUMNS = (
    Column('parameters', 'parameters [M]', millions),
    Column('multiply_adds', 'multiply-adds [G]', billions),
)


class Complexity(NamedTuple):
    """Learned values, and multiply-adds of the convolutions and matrix products of a pass."""

    parameters: int
    multiply_adds: int


@torch.no_grad()
def count(module, *inputs, without=()):
    """Count the parameters of a module and the multiply-adds of its forward pass.

    PyTorch's counter sees each operation as it is dispatched, so a convolution whose weights are
    computed from the input counts like any other. Element-wise operations do not count.

    Args:
        module (nn.Module): Runs in evaluation mode; on the meta device nothing is computed.
        *inputs: Arguments of its ``forward``.
        without (Sequence[str]): Names of submodules that run and are not counted, as in
            ``nn.Module.get_submodule``; none lies within another. Default: ``()``.

    Returns:
        Complexity: The two numbers.

    Example:
        >>> with torch.device('meta'):
        ...     count(torch.nn.Conv2d(8, 16, 1), torch.empty(1, 8, 4, 4))
        Complexity(parameters=144, multiply_adds=2048)
    """
    left_out = {name: module.get_submodule(name) for name in without}
    training = module.training
    module.eval()  # a backbone's returns None
    with FlopCounterMode(display=False) as counter:
        module(*inputs)
    module.train(training)
    parameters = sum(map(torch.numel, module.parameters()))
    operations = counter.get_total_flops()
    by_module = counter.get_flop_counts()
    for name, part in left_out.items():
        parameters -= sum(map(torch.numel, part.parameters()))
        operations -= sum(by_module.get(f'{type(module).__name__}.{name}', {}).values())
    return Complexity(parameters, operations // 2)


def papers_table(counted=lambda row: True):
    """Return the table of every method beside its baseline, counted as in its paper.

    ``counted`` chooses among the rows of ``methods.yml``; by default all are counted.
    """
    rows = [
        _count_row(table['table'], {**table['common'], **row})
        for method in METHODS.values()
        for table in method.costs
        for row in _with_and_without_cac(table['rows'])
        if counted(row)
    ]
    columns = (
        Column('source', 'table of'),
        Column('model', 'model'),
        Column('counted', 'counted'),
        COLUMNS[0],
        Column('paper_parameters', 'paper [M]', millions),
        COLUMNS[1],
        Column('paper_multiply_adds', 'paper [G]', billions),
    )
    facts = (
        'The convolutions and matrix products of one image, also with weights made from the '
        'image included; element-wise operations are not counted.',
        'CTNet at 513×513, everything else at 512×512. Heads read a 1/8 map of 2048 channels, '
        "ACNet's and the FCN beside it a 1/16 map; 60 classes, CAC 150.",
    )
    title = 'Parameters and multiply-adds, as measured and in the papers'
    return Table(title, columns, rows, facts)


def _with_and_without_cac(rows):
    for row in rows:
        yield row
        if 'with_cac' in row:
            parameters, model = row['with_cac'], f'{row["model"]}, with CAC'
            yield dict(model=model, parameters=parameters, wraps=row['mmseg'])


def _count_row(source, row):
    image = row['image']
    inputs = (torch.empty(1, 3, image, image, device='meta'),)
    if 'mmseg' in row:
        config = compared.mmseg_model(row['mmseg'])
    elif 'wraps' in row:
        config = compared.with_cac(compared.mmseg_model(row['wraps']))
    elif 'backbone' in row:
        config = row['backbone']
    else:
        config = compared.head_config(row['head'], **row.get('options', {}))
        inputs = (compared.feature_maps(image=image, strides=row['strides']),)
    costs = count(build(config), *inputs, without=row.get('without', ()))._asdict()
    papers = {
        f'paper_{key}': round(row[key] * unit) if key in row else None
        for key, unit in dict(parameters=1e6, multiply_adds=1e9).items()
    }
    named = dict(source=source, model=row['model'], counted=row['counted'], input=[image, image])
    return {**named, **costs, **papers}


def heads_table():
    """Return the table of the plugin's and MMSegmentation's heads on the same features."""
    rows = [
        dict(
            model=name,
            **count(build(compared.head_config(name)), compared.feature_maps())._asdict(),
        )
        for name in compared.COMPARED
    ]
    columns = (Column('model', 'head'), *COLUMNS)
    return Table('Heads on [1, 2048, 64, 64], 60 classes', columns, rows, compared.HEAD_FACTS)

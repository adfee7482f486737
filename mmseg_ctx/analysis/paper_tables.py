"""What every method costs beside its baseline and the paper's figure, and the heads side by side.

Everything is built on the meta device: nothing is computed and no memory is needed.
"""

from pathlib import Path

import torch
import yaml

from mmseg_ctx.analysis.complexity import COLUMNS, count
from mmseg_ctx.analysis.models import (
    COMPARED,
    HEAD_NOTES,
    head_config,
    head_inputs,
    mmseg_model,
    with_cac,
)
from mmseg_ctx.utils.models import build
from mmseg_ctx.utils.tables import Column, Table, billions, millions

PAPERS = Path(__file__).with_name('papers.yml')


def papers_table(path=PAPERS):
    """Count every method beside its baseline, as its paper counts.

    Args:
        path (Path): The file with the papers' tables, which says what its entries are.

    Returns:
        Table: CaC-Net's Table 7, DMNet's Table 3, CTNet's Table 3, CAC's Table 1, and ACNet, whose
        paper has no figures.
    """
    rows = [
        _count_row(source, {**table['common'], **row})
        for source, table in yaml.safe_load(path.read_text()).items()
        for row in table['rows']
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
        'The convolutions and matrix products of one image, those with weights made from the '
        'image included; element-wise operations are not counted.',
        'CTNet at 513×513, everything else at 512×512. Heads read a 1/8 map of 2048 channels, '
        "ACNet's and the FCN beside it a 1/16 map; 60 classes, CAC 150.",
    )
    return Table(
        'Parameters and multiply-adds, as measured and in the papers', columns, rows, facts
    )


def _count_row(source, row):
    image, strides = row['image'], row.get('strides')
    config = _config(row)
    if strides:
        inputs = head_inputs(config, image=image, strides=strides)
    else:
        inputs = (torch.empty(1, 3, image, image, device='meta'),)
    units = dict(parameters=1e6, multiply_adds=1e9)
    return dict(
        source=source,
        model=row['model'],
        counted=row['counted'],
        input=[image, image],
        **count(build(config), *inputs, without=row.get('without', ()))._asdict(),
        **{
            f'paper_{key}': round(row[key] * unit) if key in row else None
            for key, unit in units.items()
        },
    )


def _config(row):
    """Return the config of a row's model, head or backbone."""
    if 'mmseg' in row:
        model = mmseg_model(row['mmseg'])
        return with_cac(model) if row.get('cac') else model
    return row.get('backbone') or head_config(row['head'], **row.get('options', {}))


def heads_table():
    """Count the heads of the plugin and MMSegmentation's on the same features.

    Returns:
        Table: Of ``COMPARED``, for ``[1, 2048, 64, 64]`` and the stages before it.
    """
    configs = [head_config(name) for name in COMPARED]
    rows = [
        dict(model=config['type'], **count(build(config), *head_inputs(config))._asdict())
        for config in configs
    ]
    columns = (Column('model', 'head'), *COLUMNS)
    return Table(
        'Heads on [1, 2048, 64, 64], 60 classes', columns, rows, tuple(HEAD_NOTES.values())
    )

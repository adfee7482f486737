"""The numbers of every config, one line each, in ``zoo/FOLDER.tsv``.

``python -m tests.configs.zoo`` writes them.

The papers' numbers: CaC-Net, Section 4.1; ACNet, 4.2; DMNet, 4.1; CTNet, 4.2.2, and for Cityscapes
its released code; CAC, Table 1 and 4.1 (the settings of MMSegmentation's baselines).
Epochs are of 4,998 (PASCAL-Context), 10,582 (VOC aug) and 20,210 (ADE20K) images, 16 at a time.
Where a paper gives no iterations, crop or rate, the value is MMSegmentation's for the data set.
Look at each changed number before committing the table.
"""

import copy
import csv
import functools
import itertools
from pathlib import Path

from mmengine import Config
from mmengine.registry import init_default_scope

from mmseg_ctx.utils.datasets import inner_datasets
from mmseg_ctx.utils.models import build
from tests.configs.training import heads
from tests.helpers import ROOT

CONFIGS = ROOT / 'configs'
TABLES = Path(__file__).with_name('zoo')
PATHS = sorted(
    path.relative_to(CONFIGS).as_posix()
    for path in CONFIGS.rglob('*.py')
    if '_base_' not in path.parts
)
# On the embedded data set and on CamVid there are no papers; the settings are ours.
PUBLIC = [path for path in PATHS if 'context-scenes' not in path and 'camvid' not in path]

read = functools.cache(Config.fromfile)


def load(path):
    """Return a config without what would be downloaded."""
    config = copy.deepcopy(read(CONFIGS / path))
    config.model.pretrained = None
    config.model.backbone.pop('init_cfg', None)
    return config


def row(path, config, model):
    """Return the line of a config: what decides whether a training is the paper's."""
    original = read(CONFIGS / path)
    optimizer, policy = config.optim_wrapper.optimizer, config.param_scheduler[-1]
    backbone, auxiliary = config.model.backbone, config.model.get('auxiliary_head')
    training = inner_datasets(config.train_dataloader.dataset)
    steps = {step.type: step for step in training[0].pipeline}
    test = {step.type: step for step in config.test_dataloader.dataset.pipeline}
    [scales] = [s for s in config.tta_pipeline[-1].transforms if s[0].type == 'Resize']
    norms = _values(config.model.to_dict(), 'norm_cfg')
    numbers = dict(
        backbone=f'{backbone.type} {backbone.get("depth", backbone.get("arch", ""))}',
        head=_head(config.model.decode_head),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        norms=_words(sorted({norm['type'] for norm in norms if norm})),
        classes=_words(sorted({head.num_classes for _, head in heads(config.model)})),
        auxiliary=auxiliary and f'{auxiliary.loss_decode.loss_weight} at {auxiliary.in_index}',
        optimizer=f'{optimizer.type} {optimizer.lr:g} {optimizer.weight_decay:g}',
        policy=f'{policy.type} {policy.power} to {policy.eta_min:g} at {policy.end}',
        warm_up=config.param_scheduler[0].end if len(config.param_scheduler) > 1 else None,
        iterations=config.train_cfg.max_iters,
        validation=config.train_cfg.val_interval,
        batch=config.train_dataloader.batch_size,
        training=_words(map(_place, training)),
        validated=_place(config.val_dataloader.dataset),
        tested=_place(config.test_dataloader.dataset),
        metric=config.test_evaluator.type,
        crop=_words(steps['RandomCrop'].crop_size) if 'RandomCrop' in steps else None,
        ratio=_words(steps['RandomResize'].ratio_range) if 'RandomResize' in steps else None,
        rotation='RandomRotate' in steps and f'{steps["RandomRotate"].degree}°',
        photometric='PhotoMetricDistortion' in steps or None,
        scale=_words(test['Resize'].scale) if 'Resize' in test else None,
        window=_words(config.model.test_cfg.get('crop_size', ())),
        scales=_words(step.scale_factor for step in scales),
        start=original.get('load_from')
        or original.model.get('pretrained')
        or (original.model.backbone.get('init_cfg') or {}).get('checkpoint'),
    )
    return dict(config=path, **{name: str(value or '').strip() for name, value in numbers.items()})


def _head(head):
    if isinstance(head, list):
        return ' + '.join(map(_head, head))
    return f'{head.type}({_head(head.head)})' if 'head' in head else head.type


def _place(dataset):
    return ' '.join(
        [dataset.type, *dataset.get('data_prefix', {}).values(), dataset.get('ann_file', '')]
    )


def _words(values):
    return ' '.join(map(str, values))


def _values(node, name):
    """Yield the values of a key in nested dictionaries and lists."""
    if isinstance(node, dict):
        yield from [node[name]] if name in node else []
        node = list(node.values())
    for part in node if isinstance(node, list) else []:
        yield from _values(part, name)


def read_tables():
    """Return the lines of all tables by the config."""
    lines = {}
    for path in sorted(TABLES.glob('*.tsv')):
        with path.open(newline='') as file:
            lines |= {line['config']: line for line in csv.DictReader(file, delimiter='\t')}
    return lines


def main():
    """Write the tables."""
    init_default_scope('mmseg')
    lines = [row(path, config := load(path), build(config.model)) for path in PATHS]
    for folder, group in itertools.groupby(lines, lambda line: line['config'].split('/')[0]):
        with (TABLES / f'{folder}.tsv').open('w', newline='') as file:
            writer = csv.DictWriter(file, lines[0], delimiter='\t', lineterminator='\n')
            writer.writeheader()
            writer.writerows(group)


if __name__ == '__main__':
    main()

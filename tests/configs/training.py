"""Training a config for a moment: a shrunken model, a toy data set, MMEngine's own runner."""

import copy
import itertools

from mmengine import Config
from mmengine.runner import Runner

from mmseg_ctx.datasets.toy import make_toy_dataset

WIDTHS = (8, 16, 32, 64)  # of the four stages of a shrunken ResNet
RUNS = itertools.count()
HEADS = {
    'AdaptiveContextHead': dict(in_channels=(8, 16, 64), block_channels=(16, 12, 8)),
    'ContextAdaptiveConvHead': dict(in_channels=64, channels=16),
    'ContextTandemHead': dict(in_channels=64, channels=16, key_channels=8, kernel_sizes=(3, 5)),
    'DepthwiseSeparableASPPHead': dict(
        in_channels=64, channels=16, c1_in_channels=8, c1_channels=4
    ),
    'DynamicMultiScaleHead': dict(in_channels=64, channels=16),
    'UPerHead': dict(in_channels=list(WIDTHS), channels=16),
}


def shrink(config):
    """Return ``--cfg-options`` that make a model on a ResNet small enough for the CPU."""
    model = config.model
    wrapped = 'head' in model.decode_head
    head = model.decode_head.head if wrapped else model.decode_head
    key = 'model.decode_head.head' if wrapped else 'model.decode_head'
    options = {'model.pretrained': None}
    for name, value in dict(depth=18, base_channels=8, stem_channels=8).items():
        options[f'model.backbone.{name}'] = value
    for name, value in HEADS[head.type].items():
        options[f'{key}.{name}'] = value
    if model.get('auxiliary_head'):
        options.update({'model.auxiliary_head.in_channels': 32, 'model.auxiliary_head.channels': 8})
    if 'neck' in model:
        options.update({'model.neck.in_channels': WIDTHS[1:], 'model.neck.mid_channels': 16})
    return options


def schedule(iterations):
    """Return ``--cfg-options`` that train so long, and validate and save at the end."""
    return {
        'train_cfg.max_iters': iterations,
        'train_cfg.val_interval': iterations,
        'default_hooks.checkpoint.interval': iterations,
        'default_hooks.logger.interval': 1,
    }


def load_lightly():
    """Return ``--cfg-options`` for two images an iteration, no worker processes."""
    options = {'train_dataloader.batch_size': 2}
    for loader in ('train', 'val', 'test'):
        options[f'{loader}_dataloader.num_workers'] = 0
        options[f'{loader}_dataloader.persistent_workers'] = False
    return options


def prepare(path, layout, iterations=2):
    """Read a config, shrink its model and put a toy data set where it looks, below the folder."""
    config = Config.fromfile(path)
    # Square: pipelines give the short side its length.
    make_toy_dataset(layout, config.dataset.data_root, num_images=1, size=(64, 64))
    config.merge_from_dict(shrink(config))
    config.merge_from_dict(schedule(iterations))
    config.merge_from_dict(load_lightly())
    config.work_dir = 'work_dir'
    return config


def runner(config, **changes):
    """Return a runner for a copy of ``config`` with some of its entries changed."""
    config = copy.deepcopy(config)
    config.merge_from_dict(changes)
    # Names of runs that start within a second would be the same.
    config.experiment_name = f'run{next(RUNS)}'
    return Runner.from_cfg(config)


def with_scales_and_flip(config):
    """Return the config that ``mim test … --tta`` makes of it."""
    config = copy.deepcopy(config)
    config.test_dataloader.dataset.pipeline = config.tta_pipeline
    config.tta_model.module = config.model
    config.model = config.tta_model
    return config

"""Training a config for a moment: a shrunken model, a toy data set, MMEngine's own runner."""

import copy
import itertools
import re
from pathlib import Path

from mmengine import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmseg_ctx.utils.datasets import inner_datasets
from mmseg_ctx.utils.methods import METHODS
from tests.toy import make_toy_dataset

WIDTHS = (8, 16, 32, 64)  # of the four maps of a shrunken ResNet, HRNet or Swin Transformer
NARROW = {'MobileNetV2': (8, 8, 24, 80), 'EfficientNetLite': (24, 40, 112, 320)}
RESNET = dict(depth=18, base_channels=8, stem_channels=8)
BACKBONES = {
    'EfficientNetLite': dict(init_cfg=None),
    'HRNet': dict(
        extra={
            f'stage{stage}': dict(
                num_modules=1, num_blocks=(1,) * branches, num_channels=WIDTHS[:branches]
            )
            for stage, branches in ((1, 1), (2, 2), (3, 3), (4, 4))
        }
    ),
    'MobileNetV2': dict(widen_factor=0.25),
    'SwinTransformer': dict(
        init_cfg=None, embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 4)
    ),
}
RUNS = itertools.count()
# Where a config's name says another data set than the layout's.
LAYOUTS = {
    'cityscapestrainval': 'cityscapes_trainval',
    'voc12aug': 'pascal_voc12_aug',
    'voc12trainval': 'pascal_voc12_trainval',
}
HEADS = {
    **{each.head: each.tests.get('in_configs', dict(channels=16)) for each in METHODS.values()},
    'DepthwiseSeparableASPPHead': dict(channels=16, c1_in_channels=8, c1_channels=4),
    'FCNHead': dict(channels=8),
    'OCRHead': dict(channels=16, ocr_channels=8),
    'UPerHead': dict(channels=16),
}


def shrink(config):
    """Return ``--cfg-options`` that make a model small enough for the CPU."""
    model = config.model
    kind = model.backbone.type
    options = {'model.pretrained': None}
    for name, value in BACKBONES.get(kind, RESNET).items():
        options[f'model.backbone.{name}'] = value
    widths = NARROW.get(kind, WIDTHS)
    if 'neck' in model:
        options.update({'model.neck.in_channels': WIDTHS[1:], 'model.neck.mid_channels': 16})
        # JPU's map, of four times its width, takes the place of the last.
        widths = (*WIDTHS[1:3], 4 * 16)
    for key, head in heads(model):
        index = head.in_index
        alone = isinstance(index, int)
        options[f'{key}.in_channels'] = widths[index] if alone else [widths[i] for i in index]
        for name, value in HEADS[head.type].items():
            options[f'{key}.{name}'] = value
        if 'context_channels' in head:
            options[f'{key}.context_channels'] = widths[head.context_index]
    return options


def heads(model):
    """Yield the key and the config of each head, a wrapped head's own."""
    decode = model.decode_head
    keyed = enumerate(decode) if isinstance(decode, list) else [(None, decode)]
    for number, head in keyed:
        key = 'model.decode_head' if number is None else f'model.decode_head.{number}'
        yield (f'{key}.head', head.head) if 'head' in head else (key, head)
    if model.get('auxiliary_head'):
        yield 'model.auxiliary_head', model.auxiliary_head


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


def layout_of(path):
    """Return the layout of the data set that a config's file name says."""
    name = re.fullmatch(r'.+_(.+)-\d+x\d+', Path(path).stem).group(1)
    return LAYOUTS.get(name, name.replace('-', '_'))


def prepare(path, layout, iterations=2):
    """Read a config, shrink its model and put a toy data set where it looks, below the folder."""
    config = Config.fromfile(path)
    # Square: pipelines give the short side its length.
    make_toy_dataset(layout, num_images=1, size=(64, 64))
    config.merge_from_dict(shrink(config))
    config.merge_from_dict(schedule(iterations))
    config.merge_from_dict(load_lightly())
    config.work_dir = 'work_dir'
    return config


def use_small_images(config, side=64, window=48):
    """Make a config train and test on images of so few pixels, in smaller windows if in windows."""
    if 'size' in config.model.data_preprocessor:
        config.model.data_preprocessor.size = (side, side)
    if config.model.test_cfg.mode == 'slide':
        config.model.test_cfg.update(crop_size=(window, window), stride=(window // 2, window // 2))
    for split in ('train', 'val', 'test'):
        for part in inner_datasets(config[f'{split}_dataloader'].dataset):
            for step in part.pipeline:
                if step.type in ('Resize', 'RandomResize'):
                    step.scale = (side, side)
                if step.type == 'RandomCrop':
                    step.crop_size = (side, side)


def runner(config, **changes):
    """Return a runner for a copy of ``config`` with some of its entries changed."""
    config = copy.deepcopy(config)
    config.merge_from_dict(changes)
    # Names of runs that start within a second would be the same.
    config.experiment_name = f'run{next(RUNS)}'
    return RUNNERS.build(config) if 'runner_type' in config else Runner.from_cfg(config)


def with_scales_and_flip(config):
    """Return the config that ``mim test … --tta`` makes of it."""
    config = copy.deepcopy(config)
    config.test_dataloader.dataset.pipeline = config.tta_pipeline
    config.tta_model.module = config.model
    config.model = config.tta_model
    return config

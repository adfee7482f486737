"""Training a config for a moment: a shrunken model, a toy data set, MMEngine's own runner."""

import copy
import itertools

from mmengine import Config
from mmengine.runner import Runner

from mmseg_ctx.datasets.toy import make_toy_dataset

WIDTHS = (8, 16, 32, 64)  # of the four maps of a shrunken ResNet, HRNet or Swin Transformer
NARROW = {'MobileNetV2': (8, 8, 24, 80)}  # All of its widths are multiples of 8.
RESNET = dict(depth=18, base_channels=8, stem_channels=8)
BACKBONES = {
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
HEADS = {
    'AdaptiveContextHead': dict(block_channels=(16, 12, 8)),
    'ContextAdaptiveConvHead': dict(channels=16),
    'ContextTandemHead': dict(channels=16, key_channels=8, kernel_sizes=(3, 5)),
    'DepthwiseSeparableASPPHead': dict(channels=16, c1_in_channels=8, c1_channels=4),
    'DynamicMultiScaleHead': dict(channels=16),
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


def train_on_crops(config, side=64):
    """Make a config train on crops of so few pixels."""
    config.model.data_preprocessor.size = (side, side)
    for step in config.train_dataloader.dataset.pipeline:
        if step.type == 'RandomResize':
            step.scale = (side, side)
        if step.type == 'RandomCrop':
            step.crop_size = (side, side)


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

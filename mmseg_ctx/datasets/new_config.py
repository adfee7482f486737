"""Write one whole config for a folder of images and a folder of labels.

Head, encoder and optimiser come from the configs for CamVid; sizes and the schedule are made for
the images. The config has no base, and its data set is MMSegmentation's own.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from mmengine.config import Config

from mmseg_ctx.datasets.folders import Pair
from mmseg_ctx.utils.configs import CONFIG_ROOT, config_path
from mmseg_ctx.utils.methods import HEAD_METHODS

CHOICES = ('fcn', *HEAD_METHODS, 'cac-fcn', *(f'cac-{name}' for name in HEAD_METHODS))
"""What can be trained; ``cac-`` stands for the context-aware classifier around a head."""
BACKBONES = dict(lite0='lite0-d16', resnet50='r50')
"""Beginnings of the endings of ``configs/_base_/models/METHOD_*.py``."""


@dataclass
class Plan:
    """Sizes and schedule.

    Attributes:
        scale (tuple[int, int]): Width and height that images are resized to fit into.
        crop_size (tuple[int, int]): Height and width of the parts that training sees.
        batch_size (int): Images in an iteration.
        iterations (int): Length of the training.
        for_cpu (bool): Whether images are made small enough for a CPU.
    """

    scale: tuple
    crop_size: tuple
    batch_size: int
    iterations: int
    for_cpu: bool


def make_plan(sizes, number, for_cpu, batch_size=8, iterations=None):
    """Choose sizes and schedule as for CamVid, where they were tried.

    Args:
        sizes (list[tuple[int, int]]): Width and height of each image.
        number (int): Images for training.
        for_cpu (bool): Whether to make images as small as CamVid's at half size, 240×180 pixels.
        batch_size (int): Images in an iteration. Default: 8.
        iterations (int | None): Length of the training. By default training sees each image 26
            times on a CPU, in 800 to 2,000 iterations, and otherwise 80 times, in 2,000 to 80,000.

    Returns:
        Plan: The plan.
    """
    short, long = np.median(np.sort(sizes), axis=0)
    upright = np.greater(*np.median(sizes, axis=0)[::-1])
    width, height = (short, long) if upright else (long, short)
    largest = 256 * 192 if for_cpu else 2048 * 1024
    factor = min(1, (largest / (width * height)) ** 0.5)
    scale = max(round(factor * width), 32), max(round(factor * height), 32)
    crop_size = tuple(min(side, 512) for side in reversed(scale))
    if for_cpu:
        # Whole images, upright ones, too: an FCN on frozen features of CamVid had 58.8 % mIoU with
        # whole images after 400 iterations, and 53.0 % with crops of seven eighths of each side.
        sides = np.sort(sizes), np.sort(scale)
        factors = (sides[1] / sides[0]).min(axis=1, keepdims=True)
        crop_size = tuple(np.floor(sizes * factors + 0.5).astype(int).max(axis=0)[::-1].tolist())
    if iterations is None:
        times, shortest, longest = (26, 800, 2_000) if for_cpu else (80, 2_000, 80_000)
        iterations = round(times * number / batch_size, -2)
        iterations = int(min(max(iterations, shortest), longest))
    return Plan(scale, crop_size, batch_size, iterations, for_cpu)


def list_files(split, out):
    """Return the parts of a split, with a file of names where a folder has other files, too.

    Args:
        split (Split): Folders and pairs.
        out (str): Beginning of the path of a file with names, such as ``'my_cac_train'``.

    Returns:
        list[tuple[Pair, str | None, list[str]]]: A part for each pair of suffixes: a pair without
        a name, the path of the part's file, or None, and the names of its images.
    """
    parts = defaultdict(list)
    for pair in split.pairs:
        parts[Pair('', pair.image_suffix, pair.label_suffix)].append(pair.name)
    result = []
    for number, (suffixes, names) in enumerate(parts.items()):
        alone = len(list(split.images.rglob(f'*{suffixes.image_suffix}'))) == len(names)
        path = None if alone else f'{out}{f"_{number}" if number else ""}.txt'
        result.append((suffixes, path, sorted(names)))
    return result


class Name(str):
    """The name of a variable of the config, in the place of its value."""

    __repr__ = str.__str__


def config_text(method, backbone, pretrained, splits, encoding, palette, shares, plan, title):
    """Return the text of a config.

    Args:
        method (str): One of ``CHOICES``.
        backbone (str): A key of ``BACKBONES``.
        pretrained (bool): Whether the encoder begins with ImageNet weights.
        splits (dict[str, tuple[Split, list]]): The splits train, val and perhaps test, and what
            :func:`list_files` says of each.
        encoding (Encoding): Classes and settings.
        palette (list): A colour for each class.
        shares (ndarray): Share of each class among the labelled pixels.
        plan (Plan): Sizes and schedule.
        title (str): First line, a comment.

    Returns:
        str: Python code.
    """
    base = _base('datasets/camvid')
    workers = dict(num_workers=1) if plan.for_cpu else {}
    loaders = {}
    for name in ('train', 'val', 'test'):
        if name in splits:
            pipeline = Name('train_pipeline' if name == 'train' else 'test_pipeline')
            dataset = dict(dataset=_dataset(*splits[name], pipeline))
            loaders[f'{name}_dataloader'] = base[f'{name}_dataloader'] | workers | dataset
    loaders.setdefault('test_dataloader', Name('val_dataloader'))
    loaders['train_dataloader']['batch_size'] = plan.batch_size
    metric = dict(type='IoUMetric', iou_metrics=['mIoU'], ignore_index=Name('ignore_index'))
    sections = {
        'The data': dict(
            classes=tuple(encoding.classes),
            palette=[list(map(int, colour)) for colour in palette],
            num_classes=len(encoding.classes),
            ignore_index=encoding.ignore_index,
            scale=plan.scale,
            crop_size=plan.crop_size,
            dataset=dict(
                type='BaseSegDataset',
                metainfo=dict(classes=Name('classes'), palette=Name('palette')),
                reduce_zero_label=encoding.reduce_zero_label,
                ignore_index=Name('ignore_index'),
            ),
            **pipelines(plan),
            tta_pipeline=[_LOAD, _RESIZE, base['tta_pipeline'][-1]],
            **loaders,
            val_evaluator=metric,
            test_evaluator=Name('val_evaluator'),
        ),
        'The model': dict(model=model_config(method, backbone, pretrained)),
        'The schedule': schedule(backbone, pretrained, plan),
        'What MMEngine needs': dict(_base('default_runtime'), randomness=dict(seed=0)),
    }
    lines = [f'# {title}', '# It inherits nothing: change what you like.']
    for heading, settings in sections.items():
        lines += ['', f'# --- {heading}']
        for name, value in settings.items():
            lines += [*_COMMENTS.get(name, []), f'{name} = {code(value)}']
        if heading == 'The model':
            lines += _frequency_comment(encoding.classes, shares)
    return '\n'.join(lines) + '\n'


def _base(name):
    return Config.fromfile(config_path(f'_base_/{name}.py')).to_dict()


_COMMENTS = dict(
    scale=['# Width and height that images are resized to fit into.'],
    crop_size=['# Height and width of the parts that training sees.'],
    ignore_index=['# The label of pixels without a class.'],
)


_LOAD, _LABELS = dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')
_RESIZE = dict(type='Resize', scale=Name('scale'), keep_ratio=True)


def pipelines(plan):
    """Return the pipelines of training, of whole images or of crops, and of testing, by name."""
    resize = _RESIZE
    crop = dict(type='RandomCrop', crop_size=Name('crop_size'), ignore_index=Name('ignore_index'))
    if not plan.for_cpu:
        resize = dict(_RESIZE, type='RandomResize', ratio_range=(0.75, 2.0))
        crop['cat_max_ratio'] = 0.75
    flip, pack = dict(type='RandomFlip', prob=0.5), dict(type='PackSegInputs')
    return dict(
        train_pipeline=[_LOAD, _LABELS, resize, crop, flip, pack],
        test_pipeline=[_LOAD, _RESIZE, _LABELS, pack],
    )


def _dataset(split, parts, pipeline):
    """Return the config of a data set, or of several if files have several suffixes."""
    datasets = []
    for pair, path, _ in parts:
        settings = dict(
            data_prefix=dict(img_path=str(split.images), seg_map_path=str(split.labels)),
            img_suffix=pair.image_suffix,
            seg_map_suffix=pair.label_suffix,
            pipeline=pipeline,
        )
        listed = dict(ann_file=path) if path else {}
        datasets.append({'**': Name('dataset'), **listed, **settings})
    return datasets[0] if len(datasets) == 1 else dict(type='ConcatDataset', datasets=datasets)


def model_config(method, backbone, pretrained):
    """Return the config of a model, with ``num_classes`` and ``ignore_index`` as variables."""
    name = method.removeprefix('cac-')
    pattern = f'{name}_{BACKBONES[backbone]}*.py'
    path = min((CONFIG_ROOT / '_base_/models').glob(pattern))
    model = Config.fromfile(path).model.to_dict()
    if not pretrained:
        model['pretrained'] = None
        for key in ('init_cfg', 'frozen_stages'):
            model['backbone'].pop(key, None)
    elif backbone == 'lite0':
        # With the last three stages trained, too, an FCN had 62.0 % mIoU on CamVid after 400
        # iterations, and 60.0 % on a frozen encoder.
        model['backbone']['frozen_stages'] = 4
    model['data_preprocessor'] |= dict(size=Name('crop_size'), seg_pad_val=Name('ignore_index'))
    for key in ('decode_head', 'auxiliary_head'):
        if key in model:
            model[key] |= dict(num_classes=Name('num_classes'), ignore_index=Name('ignore_index'))
    if method != name:
        model['decode_head'] = dict(type='ContextAwareClassifierHead', head=model['decode_head'])
        if backbone == 'lite0':
            # On CamVid a weight of 1 left CAC behind the head alone.
            loss_kl = dict(type='ClassEntropyKLLoss', loss_weight=0.1)
            model['decode_head']['loss_kl'] = loss_kl
    return model


def schedule(backbone, pretrained, plan):
    """Return optimiser, rates, loops and hooks for a plan."""
    base = _base(f'schedules/schedule_{"camvid" if backbone == "lite0" else "20k"}')
    optimizer = base['optim_wrapper']['optimizer']
    if backbone != 'lite0':
        optimizer['lr'] *= plan.batch_size / 16  # the papers' rate is for 16 images
    elif not pretrained:
        base['optim_wrapper'].pop('paramwise_cfg', None)
        optimizer['lr'] = 3e-3  # as CamVid's models from scratch
    warm_up = max(min(50, plan.iterations // 10), 1)
    scheduler = [
        dict(type='LinearLR', start_factor=0.02, by_epoch=False, begin=0, end=warm_up),
        dict(base['param_scheduler'][-1], begin=0, end=Name('iterations')),
    ]
    interval = max(plan.iterations // 5, 1)
    hooks = base['default_hooks']
    hooks['checkpoint'] |= dict(interval=interval, max_keep_ckpts=1, save_best='mIoU')
    hooks['validation_loss'] = dict(type='ValidationLossHook')
    loop = dict(type='IterBasedTrainLoop', max_iters=Name('iterations'), val_interval=interval)
    return dict(
        iterations=plan.iterations,
        optim_wrapper=base['optim_wrapper'],
        param_scheduler=scheduler,
        train_cfg=loop,
        val_cfg=dict(type='ValLoop'),
        test_cfg=dict(type='TestLoop'),
        default_hooks=hooks,
    )


def code(value, indent=0):
    """Return Python code for a value, on several lines if it is long."""
    if not value or type(value) not in (dict, list, tuple):
        return repr(value)
    if isinstance(value, dict):
        named = all(key == '**' or key.isidentifier() for key in value)
        start, end = ('dict(', ')') if named else ('{', '}')
        keys = [key if key == '**' else f'{key}=' if named else f'{key!r}: ' for key in value]
        items = [
            key + code(each, indent + 4) for key, each in zip(keys, value.values(), strict=True)
        ]
    else:
        start, end = '[]' if isinstance(value, list) else '()'
        items = [code(each, indent + 4) for each in value]
    flat = f'{start}{", ".join(items)}{"," if start == "(" and len(items) == 1 else ""}{end}'
    if len(flat) + indent < 92 and '\n' not in flat:
        return flat
    margin = ' ' * (indent + 4)
    return start + '\n' + ''.join(f'{margin}{item},\n' for item in items) + ' ' * indent + end


def _frequency_comment(classes, shares):
    """Return comment lines with the frequency of each class, and weights to try."""
    known = shares[shares > 0]
    weights = [round(float(np.median(known) / share), 2) if share else 1.0 for share in shares]
    width = max(map(len, classes))
    rows = [
        f'# {name:{width}} {100 * share:7.3f} {weight:8.2f}'
        for name, share, weight in zip(classes, shares, weights, strict=True)
    ]
    return [
        '# Frequency of each class among the labelled pixels in percent, and its weight by median',
        '# frequency balancing (Eigen, Fergus, ICCV 2015). Rare classes gain by weights and others',
        '# lose; for a try, add class_weight=[…] with these numbers to each loss_decode.',
        *rows,
    ]

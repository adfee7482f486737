"""Tiny data sets where the configs of public data sets look for their files."""

from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmseg.registry import DATASETS
from PIL import Image

from mmseg_ctx.utils.datasets import inner_datasets
from tests.helpers import ROOT

LAYOUTS = (
    *('ade20k', 'camvid', 'cityscapes', 'cityscapes_trainval', 'coco_stuff10k', 'coco_stuff164k'),
    *('pascal_context', 'pascal_context_59', 'pascal_voc12_aug', 'pascal_voc12_trainval'),
)
"""Names of files in ``configs/_base_/datasets``."""


def make_toy_dataset(layout, num_images, size=(64, 96)):
    """Write a few images for each split below the working directory; return the layout's config.

    A label is a grid of twelve cells of one class each; the first cell is unlabelled.
    """
    config = Config.fromfile(ROOT / f'configs/_base_/datasets/{layout}.py')
    loaders = (config[f'{split}_dataloader'] for split in ('train', 'val', 'test'))
    datasets = [dataset for loader in loaders for dataset in inner_datasets(loader.dataset)]
    # Validation and test data are often the same.
    by_files = {(each.data_prefix['img_path'], each.get('ann_file')): each for each in datasets}
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (256, 3), dtype=np.uint8)
    rows, columns = (np.arange(n) * cells // n for n, cells in zip(size, (3, 4), strict=True))
    for number, settings in enumerate(by_files.values()):
        names = [f'{number}{index:05d}' for index in range(num_images)]
        if 'ann_file' in settings:
            path = Path(settings.data_root, settings.ann_file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(''.join(f'{name}\n' for name in names))
        for folder in settings.data_prefix.values():
            Path(settings.data_root, folder).mkdir(parents=True, exist_ok=True)
        dataset = DATASETS.build({**settings, 'pipeline': [], 'lazy_init': True})
        first = int(dataset.reduce_zero_label)
        values = range(first, first + len(dataset.metainfo['classes']))
        for name in names:
            cells = rng.choice(values, (3, 4)).astype(np.uint8)
            cells[0, 0] = 0 if first else dataset.ignore_index
            label = cells[rows[:, None], columns]
            Image.fromarray(colours[label]).save(
                f'{dataset.data_prefix["img_path"]}/{name}{dataset.img_suffix}'
            )
            if 'seg_map_path' in dataset.data_prefix:
                Image.fromarray(label).save(
                    f'{dataset.data_prefix["seg_map_path"]}/{name}{dataset.seg_map_suffix}'
                )
    return config

"""Tiny data sets where the configs of public data sets read them, to try a config without the data.

Each image is a grid of cells, each with one class and one colour.
"""

from pathlib import Path
from typing import Literal

import numpy as np
from mmengine.config import Config
from mmseg.registry import DATASETS
from PIL import Image

from mmseg_ctx.utils.arguments import NonNegativeInt, PositiveInt, validate_arguments
from mmseg_ctx.utils.configs import config_path
from mmseg_ctx.utils.datasets import inner_datasets
from mmseg_ctx.utils.files import check_folder

LAYOUTS = (
    *('ade20k', 'camvid', 'cityscapes', 'cityscapes_trainval', 'coco_stuff10k', 'coco_stuff164k'),
    *('pascal_context', 'pascal_context_59', 'pascal_voc12_aug', 'pascal_voc12_trainval'),
)
"""Names of files in ``configs/_base_/datasets``."""
CELLS = (3, 4)  # rows and columns of the grid of an image


@validate_arguments
def make_toy_dataset(
    layout: Literal[LAYOUTS],
    out,
    num_images: PositiveInt = 4,
    size: tuple[PositiveInt, PositiveInt] = (64, 96),
    seed: NonNegativeInt = 0,
):
    """Write a tiny data set that MMSegmentation's class for ``layout`` reads.

    Args:
        layout (str): One of ``LAYOUTS``.
        out (str | Path): The data set's root, ``data_root`` of a config: a new or empty folder.
        num_images (int): Number of images in each split. Default: 4.
        size (tuple[int]): Height and width of the images in pixels. Default: (64, 96).
        seed (int): The same seed gives the same files. Default: 0.

    Returns:
        Path: ``out``.

    Raises:
        ValueError: ``layout`` is unknown, or a number is out of range.
        FileExistsError: ``out`` is a file, or a folder that is not empty.
        OSError: ``out`` cannot be written.

    Example:
        >>> make_toy_dataset('ade20k', 'data/toy_ade20k')
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f'{out} exists and is not an empty folder; name a new one')
    check_folder(out)
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 256, (256, 3), dtype=np.uint8)
    for number, settings in enumerate(_datasets(layout)):
        names = [f'{number}{index:05d}' for index in range(num_images)]
        dataset = _build(settings, out, names)
        first = int(dataset.reduce_zero_label)
        values = range(first, first + len(dataset.metainfo['classes']))
        for name in names:
            label = _draw_label(values, 0 if first else dataset.ignore_index, size, rng)
            image = np.clip(colours[label] + rng.integers(-20, 21, (*size, 3)), 0, 255)
            folders = dataset.data_prefix
            Image.fromarray(image.astype(np.uint8)).save(
                Path(folders['img_path'], f'{name}{dataset.img_suffix}')
            )
            if 'seg_map_path' in folders:
                path = Path(folders['seg_map_path'], f'{name}{dataset.seg_map_suffix}')
                Image.fromarray(label).save(path)
    return out


def _datasets(layout):
    """Return the config of each data set of a layout once."""
    config = Config.fromfile(config_path(f'_base_/datasets/{layout}.py'))
    loaders = (config[f'{split}_dataloader'] for split in ('train', 'val', 'test'))
    datasets = [dataset for loader in loaders for dataset in inner_datasets(loader.dataset)]
    files = [(each.data_prefix['img_path'], each.get('ann_file')) for each in datasets]
    return [each for index, each in enumerate(datasets) if files[index] not in files[:index]]


def _build(settings, root, names):
    """Make the folders and the list that a data set reads, and build it without its files."""
    for folder in settings.data_prefix.values():
        (root / folder).mkdir(parents=True, exist_ok=True)
    if 'ann_file' in settings:
        (root / settings.ann_file).parent.mkdir(parents=True, exist_ok=True)
        (root / settings.ann_file).write_text(''.join(f'{name}\n' for name in names))
    changes = dict(data_root=str(root), pipeline=[], lazy_init=True)
    return DATASETS.build({**settings, **changes})


def _draw_label(values, unlabelled, size, rng):
    """Return a label map with one class in each cell; the first cell is unlabelled."""
    cells = rng.choice(values, CELLS).astype(np.uint8)
    cells[0, 0] = unlabelled
    rows, columns = (np.arange(n) * cells // n for n, cells in zip(size, CELLS, strict=True))
    return cells[rows[:, None], columns]

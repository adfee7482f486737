"""Tiny data sets in the layouts of public data sets, to try a config without the data.

Folders, file names, suffixes, split lists and label encodings are those of MMSegmentation's
converters, so the class of the public data set reads them. Each image is a grid of cells, each with
one class and one colour.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from mmseg_ctx.evaluation.voc_results import voc_palette
from mmseg_ctx.utils.arguments import NonNegativeInt, PositiveInt, validate_arguments
from mmseg_ctx.utils.files import check_folder

CELLS = (3, 4)  # rows and columns of the grid of an image
# The labelId of each trainId of Cityscapes.
CITYSCAPES_LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


@dataclass(frozen=True)
class Split:
    """The files of one split; ``{}`` in a path is the image's name.

    Attributes:
        name (str): Name of an image, with a placeholder for its number.
        image (str): Path of an image.
        label (str | None): Path of its label; None for a split with secret labels.
        lists (tuple[str]): Files that list one name on each line; splits may share a list.
        has_palette (bool): Whether the label is a PNG with the palette of PASCAL VOC.
        label_ids (str | None): Path of a second label file, with Cityscapes' labelIds.
    """

    name: str
    image: str
    label: str | None
    lists: tuple = ()
    has_palette: bool = False
    label_ids: str | None = None


@dataclass(frozen=True)
class Layout:
    """The splits of a data set, and the label values of its classes and of unlabelled pixels."""

    splits: tuple
    values: range
    unlabelled: int


def _coco_stuff(split, name):
    return Split(name, f'images/{split}/{{}}.jpg', f'annotations/{split}/{{}}_labelTrainIds.png')


def _cityscapes(split, city):
    image = f'leftImg8bit/{split}/{city}/{{}}_leftImg8bit.png'
    label = f'gtFine/{split}/{city}/{{}}_gtFine_labelTrainIds.png' if split != 'test' else None
    ids = label and label.replace('labelTrainIds', 'labelIds')
    return Split(f'{city}_{{:06d}}_000019', image, label, label_ids=ids)


def _voc(folder, *splits):
    return Split(
        '2007_{:06d}',
        'JPEGImages/{}.jpg',
        folder and f'{folder}/{{}}.png',
        lists=tuple(f'ImageSets/Segmentation/{split}.txt' for split in splits),
        # The added labels come from MATLAB files and are plain grey.
        has_palette=folder == 'SegmentationClass',
    )


def _pascal_context(split):
    return Split(
        '2008_{:06d}',
        'JPEGImages/{}.jpg',
        'SegmentationClassContext/{}.png',
        lists=(f'ImageSets/SegmentationContext/{split}.txt',),
    )


def _plain(images, labels, name, suffix):
    return Split(name, f'{images}/{{}}.{suffix}', f'{labels}/{{}}.png')


ADE20K = (
    _plain('images/training', 'annotations/training', 'ADE_train_{:08d}', 'jpg'),
    _plain('images/validation', 'annotations/validation', 'ADE_val_{:08d}', 'jpg'),
)
CAMVID = (
    _plain('train', 'trainannot', '0006R0_f{:05d}', 'png'),
    _plain('val', 'valannot', '0016E5_{:05d}', 'png'),
    _plain('test', 'testannot', 'Seq05VD_f{:05d}', 'png'),
)
CITYSCAPES = (
    _cityscapes('train', 'aachen'),
    _cityscapes('val', 'frankfurt'),
    _cityscapes('test', 'berlin'),
)
# All images of COCO-Stuff 10k are from COCO's train2014, also those of the test split.
COCO_STUFF_10K = tuple(
    _coco_stuff(split, 'COCO_train2014_{:012d}') for split in ('train2014', 'test2014')
)
COCO_STUFF_164K = tuple(_coco_stuff(split, '{:012d}') for split in ('train2017', 'val2017'))
PASCAL_CONTEXT = (_pascal_context('train'), _pascal_context('val'))
VOC = (
    _voc('SegmentationClass', 'train', 'trainval', 'trainaug'),
    _voc('SegmentationClassAug', 'aug', 'trainaug'),
    _voc('SegmentationClass', 'val', 'trainval'),
    _voc(None, 'test'),
)
LAYOUTS = {
    'ade20k': Layout(ADE20K, range(1, 151), 0),
    'camvid': Layout(CAMVID, range(11), 11),
    'cityscapes': Layout(CITYSCAPES, range(19), 255),
    'coco_stuff10k': Layout(COCO_STUFF_10K, range(1, 172), 0),
    'coco_stuff164k': Layout(COCO_STUFF_164K, range(171), 255),
    'pascal_context': Layout(PASCAL_CONTEXT, range(1, 60), 0),
    'pascal_context_59': Layout(PASCAL_CONTEXT, range(1, 60), 0),
    'pascal_voc12_aug': Layout(VOC, range(21), 255),
}


@validate_arguments
def make_toy_dataset(
    layout: Literal[tuple(LAYOUTS)],
    out,
    num_images: PositiveInt = 4,
    size: tuple[PositiveInt, PositiveInt] = (64, 96),
    seed: NonNegativeInt = 0,
):
    """Write a tiny data set that MMSegmentation's class for ``layout`` reads.

    Args:
        layout (str): A key of ``LAYOUTS``, which are named like the files in
            ``configs/_base_/datasets``.
        out (str | Path): The data set's root, ``data_root`` of a config: a new folder, or an empty
            one other than the working directory. It appears when all files are written.
        num_images (int): Number of images in each split. Default: 4.
        size (tuple[int]): Height and width of the images in pixels. Default: (64, 96).
        seed (int): The same seed gives the same files. Default: 0.

    Returns:
        Path: ``out``.

    Raises:
        ValueError: ``layout`` is unknown, or a number is out of range.
        FileExistsError: ``out`` is a file, a folder that is not empty, or the working directory.
        OSError: ``out`` cannot be written.

    Example:
        >>> make_toy_dataset('ade20k', 'data/toy_ade20k')
    """
    out = Path(out)
    # rename() takes the place of an empty folder, but not of a link to one.
    root = out.resolve()
    if root.exists() and (root == Path.cwd() or not root.is_dir() or any(root.iterdir())):
        raise FileExistsError(f'{out} exists and is not an empty folder; name a new one')
    check_folder(out)
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.toy-', dir=root.parent) as folder:
        temporary = Path(folder, 'toy')
        _write(LAYOUTS[layout], temporary, num_images, size, np.random.default_rng(seed))
        temporary.replace(root)
    return out


def _write(layout, root, num_images, size, rng):
    colours = rng.integers(0, 256, (256, 3), dtype=np.uint8)
    number = 0
    for split in layout.splits:
        for _ in range(num_images):
            number += 1
            name = split.name.format(number)
            label = _draw_label(layout, size, rng)
            noise = rng.integers(-20, 21, (*size, 3))
            image = np.clip(colours[label] + noise, 0, 255).astype(np.uint8)
            _save(image, root / split.image.format(name))
            if split.label:
                _save(label, root / split.label.format(name), split.has_palette)
            if split.label_ids:
                ids = np.zeros(256, np.uint8)
                ids[: len(CITYSCAPES_LABEL_IDS)] = CITYSCAPES_LABEL_IDS
                _save(ids[label], root / split.label_ids.format(name))
            for path in split.lists:
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                with open(root / path, 'a') as lines:
                    lines.write(f'{name}\n')


def _draw_label(layout, size, rng):
    """Return a label map with one class in each cell; the first cell is unlabelled."""
    cells = rng.choice(layout.values, CELLS).astype(np.uint8)
    cells[0, 0] = layout.unlabelled
    rows, columns = (np.arange(n) * cells // n for n, cells in zip(size, CELLS, strict=True))
    return cells[rows[:, None], columns]


def _save(array, path, has_palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if has_palette:
        image.putpalette(voc_palette().tobytes())
    image.save(path)

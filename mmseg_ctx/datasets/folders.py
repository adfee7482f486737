"""Find the images of a folder, the label of each, and its splits."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

IMAGE_FOLDERS = ('images', 'image', 'imgs', 'img', 'JPEGImages', 'img_dir')
LABEL_FOLDERS = (
    *('labels', 'label', 'masks', 'mask', 'annotations', 'annots', 'ann_dir', 'gt'),
    *('SegmentationClass', 'segmentation'),
)
BESIDE = ('{split}annot', '{split}_labels', '{split}_masks')  # labels of images in '{split}'
SPLITS = dict(
    train=('train', 'training'), val=('val', 'valid', 'validation'), test=('test', 'testing')
)
LISTS = ('{split}.txt', 'splits/{split}.txt', 'ImageSets/Segmentation/{split}.txt')
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm')


@dataclass(frozen=True)
class Pair:
    """An image and its label: ``name`` and a suffix, without the folder."""

    name: str
    image_suffix: str
    label_suffix: str


@dataclass
class Split:
    """The folders of a split, and its pairs."""

    images: Path
    labels: Path
    pairs: list


def find_splits(data, images=None, labels=None, names=None):
    """Find the folders of images and labels.

    Args:
        data (Path): The folder with everything.
        images, labels (str | None): Folder below ``data``, with ``{split}`` where the name of the
            split stands, such as ``'images/{split}'``; None to look for usual names.
        names (dict[str, str] | None): Names of the splits train, val and test in these folders.

    Returns:
        dict[str, tuple[Path, Path]]: Folders of images and of labels of ``'train'``, ``'val'`` and
        ``'test'``, or of ``'all'``. A split without labels is left out.

    Raises:
        ValueError: The folders are not there, or several could be meant.
    """
    names = {split: (name,) for split, name in (names or {}).items() if name}
    names = {**SPLITS, **names}
    usual = [f for each in IMAGE_FOLDERS for f in (f'{each}/{{split}}', f'{{split}}/{each}', each)]
    usual += [] if images else ['{split}']
    image_folders = _first_folders(data, [images] if images else usual, names)
    if not image_folders:
        raise ValueError(
            f'where are the images of {data}? It has {_content(data, images)}: name them with '
            "--images, such as --images 'images/{split}' or --images photos"
        )
    usual = [f for each in LABEL_FOLDERS for f in (f'{each}/{{split}}', f'{{split}}/{each}', each)]
    label_folders = _first_folders(data, [labels] if labels else [*usual, *BESIDE], names)
    found = {
        split: (folder, label_folders.get(split) or label_folders['all'])
        for split, folder in image_folders.items()
        if split in label_folders or 'all' in label_folders
    }
    if not found.keys() & {'train', 'all'}:
        raise ValueError(
            f'where are the labels of {data}? It has {_content(data, labels)}: name them with '
            "--labels, such as --labels 'labels/{split}' or --labels masks"
        )
    return found


def _first_folders(data, patterns, names):
    """Return the folders of the first pattern that gives the training images, or all, as a dict."""
    for pattern in patterns:
        if '{split}' not in pattern:
            if folder := _folder(data, pattern):
                return dict(all=folder)
            continue
        found = {}
        for split, possible in names.items():
            for name in possible:
                if folder := _folder(data, pattern.replace('{split}', name)):
                    found.setdefault(split, folder)
        if 'train' in found:
            return found
    return {}


def _folder(data, path):
    """Return the folder of a path below ``data``, also if its names have capitals, or None."""
    for part in Path(path).parts:
        if not data.is_dir():
            return None
        if not (data / part).is_dir():
            names = sorted(each.name for each in data.iterdir())
            part = next((name for name in names if name.lower() == part.lower()), part)
        data /= part
    return data if data.is_dir() else None


def _content(data, pattern):
    folder = (data / pattern.replace('{split}', '')) if pattern else data
    folder = folder if folder.is_dir() else data
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if names:
        return f'the folders {", ".join(names[:8])}'
    files = _files(folder, None)
    return f'files alone, such as {files[0]} (--images . --labels .)' if files else 'no folders'


def pair_files(images, labels, image_suffix=None, label_suffix=None, only_pairs=False):
    """Find the label of each image: its name and a suffix, such as ``.png`` or ``_mask.png``.

    Args:
        images, labels (Path): The folders, which may have folders inside.
        image_suffix, label_suffix (str | None): End of the files' names; None for any.
        only_pairs (bool): Whether to leave out images without label, and labels without image.

    Returns:
        list[Pair]: The pairs, by name.

    Raises:
        ValueError: A file has no partner.
    """
    if images == labels and not (image_suffix and label_suffix):
        raise ValueError(
            f'images and labels are both in {images}: tell them apart with --image-suffix and '
            '--label-suffix, such as .jpg and _mask.png'
        )
    image_names, label_names = _files(images, image_suffix), set(_files(labels, label_suffix))
    ends = [image_suffix] if image_suffix else sorted({Path(name).suffix for name in image_names})
    stems = {}
    for name in image_names:
        end = next(end for end in ends if name.endswith(end))
        stems[name] = (name.removesuffix(end), end)
    if label_suffix:
        suffixes = [label_suffix]
    else:
        votes = Counter()
        for name in sorted(label_names)[:100]:
            rests = (name.removeprefix(s) for s, _ in stems.values() if name.startswith(s))
            votes.update(rest for rest in rests if not rest[0].isalnum())
        suffixes = [suffix for suffix, _ in votes.most_common()]
        if not suffixes and label_names:
            raise ValueError(
                f'no label in {labels} has the name of an image, such as {image_names[0]} and '
                f'{min(label_names)}: --image-suffix and --label-suffix name the ends that differ'
            )
    pairs, alone = [], []
    for name, (stem, end) in stems.items():
        suffix = next((each for each in suffixes if stem + each in label_names), None)
        if suffix is None:
            alone.append(f'{images / name} has no label in {labels}')
        else:
            pairs.append(Pair(stem, end, suffix))
    used = {pair.name + pair.label_suffix for pair in pairs}
    alone += [f'{labels / name} has no image in {images}' for name in sorted(label_names - used)]
    if not pairs:
        raise ValueError(f'{images} has no image with a label in {labels}')
    if alone and not only_pairs:
        more = f' (and {len(alone) - 1} more)' if len(alone) > 1 else ''
        raise ValueError(f'{alone[0]}{more}: --only-pairs leaves such files out')
    return pairs


def _files(folder, suffix):
    """Return the names of image files below a folder, in order, without hidden ones."""
    paths = (path for path in folder.rglob('[!.]*') if path.is_file())
    names = sorted(path.relative_to(folder).as_posix() for path in paths)
    if suffix:
        return [name for name in names if name.endswith(suffix)]
    return [name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES]


def find_lists(data):
    """Return the files that list the names of each split's images, by split; none or train, val."""
    for pattern in LISTS:
        paths = {split: data / pattern.replace('{split}', split) for split in SPLITS}
        found = {split: path for split, path in paths.items() if path.is_file()}
        if found.keys() >= {'train', 'val'}:
            return found
    return {}


def listed_pairs(pairs, path):
    """Return the pairs whose names, with or without suffix, stand on the lines of a file.

    Raises:
        ValueError: A name has no pair.
    """
    known = {pair.name: pair for pair in pairs}
    known |= {pair.name + pair.image_suffix: pair for pair in pairs}
    names = [line.split()[0] for line in path.read_text().splitlines() if line.strip()]
    if missing := [name for name in names if name not in known]:
        raise ValueError(f'{path} lists {missing[0]!r}, which is no image with a label')
    return [known[name] for name in names]


def split_pairs(pairs, fraction, seed):
    """Divide pairs into training and validation; return both lists, in the order of ``pairs``."""
    order = np.random.default_rng(seed).permutation(len(pairs))
    number = max(round(fraction * len(pairs)), 1)
    chosen = set(order[:number].tolist())
    if number >= len(pairs):
        raise ValueError(f'{len(pairs)} image is too little for training and validation')
    parts = [pair for index, pair in enumerate(pairs) if index not in chosen]
    return parts, [pairs[index] for index in sorted(chosen)]

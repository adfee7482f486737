"""Find the images of a folder, the label of each, and its splits."""

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
        ValueError: The folders are not there.
    """
    names = SPLITS | {split: (name,) for split, name in (names or {}).items() if name}
    image_folders = _first_folders(data, images, (*_patterns(IMAGE_FOLDERS), '{split}'), names)
    if not image_folders:
        raise ValueError(_where(data, 'images', images))
    label_folders = _first_folders(data, labels, (*_patterns(LABEL_FOLDERS), *BESIDE), names)
    found = {
        split: (folder, label_folders.get(split) or label_folders['all'])
        for split, folder in image_folders.items()
        if split in label_folders or 'all' in label_folders
    }
    if not found.keys() & {'train', 'all'}:
        raise ValueError(_where(data, 'labels', labels))
    return found


def _patterns(folders):
    return [each for name in folders for each in (f'{name}/{{split}}', f'{{split}}/{name}', name)]


def _first_folders(data, given, patterns, names):
    """Return the folders of the first pattern that gives the training images, or all, as a dict."""
    for pattern in [given] if given else patterns:
        if '{split}' not in pattern:
            if folder := _folder(data, pattern):
                return dict(all=folder)
            continue
        found = {}
        for split, possible in names.items():
            folders = (_folder(data, pattern.replace('{split}', name)) for name in possible)
            if folder := next(filter(None, folders), None):
                found[split] = folder
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


def _where(data, kind, pattern):
    folder = data / (pattern or '').replace('{split}', '')
    there = sorted(path.name for path in (folder if folder.is_dir() else data).iterdir())
    return (
        f'where are the {kind} of {data}? It has {", ".join(there[:8]) or "nothing"}: name them '
        f"with --{kind}, such as --{kind} '{kind}/{{split}}' or --{kind} photos, or with "
        '--images . --labels . where both are in one folder'
    )


def pair_files(images, labels, image_suffix=None, label_suffix=None, only_pairs=False):
    """Find the label of each image: its name and a suffix, such as ``.png`` or ``_mask.png``.

    Args:
        images, labels (Path): The folders, which may have folders inside.
        image_suffix, label_suffix (str | None): End of the files' names; None for any.
        only_pairs (bool): Whether to leave out images without label, and labels without image.

    Returns:
        list[Pair]: The pairs, by name.

    Raises:
        ValueError: A file has no partner, or several.
    """
    if images == labels and not (image_suffix and label_suffix):
        raise ValueError(
            f'images and labels are both in {images}: tell them apart with --image-suffix and '
            '--label-suffix, such as .jpg and _mask.png'
        )
    image_ends, label_ends = {}, {}
    for name in _files(images, image_suffix):
        end = image_suffix or Path(name).suffix
        _add(image_ends, name.removesuffix(end), end, images, '--image-suffix')
    alone = []
    for name in _files(labels, label_suffix):
        ends = [label_suffix] if label_suffix else _possible_ends(name)
        stem = next((s for s in map(name.removesuffix, ends) if s in image_ends), None)
        if stem is None:
            alone.append(f'{labels / name} has no image in {images}')
        else:
            _add(label_ends, stem, name[len(stem) :], labels, '--label-suffix')
    if not label_ends:
        raise ValueError(
            f'no label in {labels} has the name of an image in {images}: --image-suffix and '
            '--label-suffix name the ends that differ'
        )
    missing = [name for name in image_ends if name not in label_ends]
    alone = [
        f'{images / name}{image_ends[name]} has no label in {labels}' for name in missing
    ] + alone
    if alone and not only_pairs:
        more = f' (and {len(alone) - 1} more)' if len(alone) > 1 else ''
        raise ValueError(f'{alone[0]}{more}: --only-pairs leaves such files out')
    return [Pair(s, end, label_ends[s]) for s, end in image_ends.items() if s in label_ends]


def _add(ends, stem, end, folder, option):
    if stem in ends:
        raise ValueError(
            f'{folder} has both {stem}{ends[stem]} and {stem}{end}: {option} chooses one'
        )
    ends[stem] = end


def _possible_ends(name):
    """Return the ends of a name that begin with no letter and no digit, the shortest first."""
    return [name[start:] for start in range(len(name) - 1, 0, -1) if not name[start].isalnum()]


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
    number = max(round(fraction * len(pairs)), 1)
    if number >= len(pairs):
        raise ValueError(f'{len(pairs)} image is too little for training and validation')
    chosen = set(np.random.default_rng(seed).permutation(len(pairs))[:number].tolist())
    parts = [pair for index, pair in enumerate(pairs) if index not in chosen]
    return parts, [pairs[index] for index in sorted(chosen)]

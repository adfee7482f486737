"""Reads every file of a data set before days of training, and says what is wrong with which."""

import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from mmengine import fileio
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from PIL import Image, UnidentifiedImageError
from torch.utils.data import DataLoader, Dataset

from mmseg_ctx.utils.errors import value_errors
from mmseg_ctx.utils.tables import Column, Table

# The steps of a pipeline that bring image and label in; the others change what they brought.
LOADING = ('Load', 'Render')


@dataclass
class Summary:
    """What was found.

    Attributes:
        classes (tuple[str]): Names of the classes.
        images (int): How many images were read.
        bad_files (int): How many files have something wrong.
        pixels (np.ndarray): Labelled pixels of each class, int64 ``[N]``.
        occurrences (np.ndarray): Images that each class occurs in, int64 ``[N]``.
        has_labels (bool): Whether the split has labels.
    """

    classes: tuple
    has_labels: bool
    images: int = 0
    bad_files: int = 0
    pixels: np.ndarray = field(init=False)
    occurrences: np.ndarray = field(init=False)

    def __post_init__(self):
        self.pixels = np.zeros(len(self.classes), np.int64)
        self.occurrences = np.zeros(len(self.classes), np.int64)

    @property
    def missing_classes(self):
        """Names of the classes that no image has."""
        names = zip(self.classes, self.pixels, strict=True)
        return [name for name, pixels in names if pixels == 0]


def check_dataset(config, workers=0, report=print, progress=None):
    """Read every image and label through the data set's own class and loading steps.

    What is found is handed on at once, so that memory does not grow with the data set.

    Args:
        config (Config | dict): The data set's config, ``train_dataloader.dataset`` for instance.
            Wrappers such as ``ConcatDataset`` may be around it.
        workers (int): Processes that read; 0 reads in this one. Default: 0.
        report (Callable[[str], None]): Called with a line for each thing wrong, the file's path
            first. Default: ``print``.
        progress (Callable[[int, int], None] | None): Called after each image with the number of
            images read and that of all. Default: None.

    Returns:
        Summary: Counts of images, bad files and class frequencies.

    Raises:
        ValueError: The data set cannot be built, or it has no images.

    Example:
        >>> config = Config.fromfile('configs/_base_/datasets/ade20k.py')
        >>> check_dataset(config.train_dataloader.dataset, workers=4).missing_classes
        []
    """
    init_default_scope('mmseg')
    parts = [_Reader(part) for part in _without_wrappers(config)]
    summary = Summary(parts[0].classes, any(part.has_labels for part in parts))
    total = sum(map(len, parts))
    for part in parts:
        for path in part.labels_without_image():
            report(f'{path}: has no image')
            summary.bad_files += 1
        loader = DataLoader(part, batch_size=None, num_workers=workers, collate_fn=_as_it_is)
        for problems, pixels in loader:
            for problem in problems:
                report(problem)
            summary.images += 1
            summary.bad_files += len(problems)
            summary.pixels += pixels
            summary.occurrences += pixels > 0
            if progress:
                progress(summary.images, total)
    return summary


def _as_it_is(item):
    return item


def _without_wrappers(config):
    """Yield the config of each data set inside ``ConcatDataset`` and the like, each once."""
    inner = config.get('datasets') or ([config['dataset']] if 'dataset' in config else [])
    if not inner:
        yield config
    for part in inner:
        yield from _without_wrappers(part)


class _Reader(Dataset):
    """Gives for each image what is wrong with its files, and the pixels of each class ``[N]``."""

    def __init__(self, config):
        place = config.get('data_root') or config.get('data_prefix')
        with value_errors(f'{config.get("type")} cannot read the data set in {place!r}'):
            steps = [step for step in config['pipeline'] if _name(step).startswith(LOADING)]
            self.steps = Compose(steps).transforms
            self.has_labels = any('Image' not in _name(step) for step in steps)
            self.dataset = DATASETS.build({**config, 'pipeline': []})
            self.classes = tuple(self.dataset.metainfo['classes'])

    def __len__(self):
        return len(self.dataset)

    def labels_without_image(self):
        """Yield labels that the data set passes over, where it is a list of the images there."""
        folder = self.dataset.data_prefix.get('seg_map_path')
        if not self.has_labels or not folder or Path(self.dataset.ann_file or '').is_file():
            return
        known = {info['seg_map_path'] for info in map(self.dataset.get_data_info, range(len(self)))}
        for name in fileio.list_dir_or_file(
            folder,
            list_dir=False,
            suffix=self.dataset.seg_map_suffix,
            recursive=True,
            backend_args=self.dataset.backend_args,
        ):
            path = fileio.join_path(folder, name, backend_args=self.dataset.backend_args)
            if path not in known:
                yield path

    def __getitem__(self, index):
        info = self.dataset.get_data_info(index)
        problems = []
        for step in self.steps:
            name = 'img_path' if 'Image' in type(step).__name__ else 'seg_map_path'
            try:
                if name in info:
                    largest = _decode_whole(info[name], self.dataset.backend_args)
                    if name == 'seg_map_path' and largest > 255:
                        # The loading step would cut them to their last eight bits.
                        problems.append(f'{info[name]}: has label values up to {largest}')
                        continue
                info = step(info)
            # Whatever a file makes a reader raise is what is looked for.
            except Exception as error:
                problems.append(f'{info.get(name, index)}: cannot be read: {_reason(error)}')
        pixels = np.zeros(len(self.classes), np.int64)
        if 'gt_seg_map' in info:
            pixels, wrong = self._check_label(info)
            problems += [f'{info.get("seg_map_path", index)}: {problem}' for problem in wrong]
        return problems, pixels

    def _check_label(self, info):
        """Return the pixels of each class, and what is wrong with a label in one entry or none."""
        label = info['gt_seg_map']
        number = len(self.classes)
        if label.ndim != 2:
            shape = ' × '.join(map(str, label.shape))
            return np.zeros(number, np.int64), [f'has shape {shape}, not one class a pixel']
        counts = np.bincount(label.ravel(), minlength=number)
        problems = []
        if 'img' in info and info['img'].shape[:2] != label.shape:
            sizes = (f'{width}×{height}' for height, width in (label.shape, info['img'].shape[:2]))
            problems.append('is {} and its image {} pixels'.format(*sizes))
        ignored = self.dataset.ignore_index
        outside = [value for value in np.flatnonzero(counts[number:]) + number if value != ignored]
        if outside:
            # As the file has it: the loading step subtracts one where label 0 is ignored.
            shift = int(self.dataset.reduce_zero_label)
            values = ', '.join(str(value + shift) for value in outside)
            allowed = f'{shift} to {number - 1 + shift}'
            problems.append(f'has label values {values}; classes are {allowed}')
        counts = counts[:number].astype(np.int64)
        if not counts.any() and not outside:
            problems.append('has no labelled pixel')
        return counts, ['; '.join(problems)] if problems else []


def _name(step):
    kind = step['type']
    return kind if isinstance(kind, str) else kind.__name__


def _decode_whole(path, backend_args):
    """Return the largest value of a file with more than eight bits a value, or else 0.

    Raises:
        OSError: The file ends early: OpenCV gives a picture with a grey rest instead.
    """
    try:
        with Image.open(io.BytesIO(fileio.get(path, backend_args))) as image:
            image.load()
            return int(np.max(image)) if image.mode.startswith(('I', 'F')) else 0
    except UnidentifiedImageError:
        # OpenCV reads more formats; where it cannot, the loading step says so.
        return 0


def _reason(error):
    """Return what an exception says, on one line."""
    if isinstance(error, UnidentifiedImageError):
        return 'no image'
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return ' '.join(str(error).split()) or type(error).__name__


def frequency_table(summary):
    """Return the class frequencies as a table.

    Args:
        summary (Summary): What ``check_dataset`` found.

    Returns:
        Table: A row a class: its share of the labelled pixels and of the images.
    """
    total = max(int(summary.pixels.sum()), 1)
    rows = [
        dict(
            name=name,
            pixels=int(pixels),
            share=100 * int(pixels) / total,
            images=int(images),
            note='' if pixels else 'never occurs',
        )
        for name, pixels, images in zip(
            summary.classes, summary.pixels, summary.occurrences, strict=True
        )
    ]
    columns = (
        Column('name', 'class'),
        Column('pixels', 'pixels', '{:,}'.format),
        Column('share', 'of the pixels [%]', '{:.3f}'.format),
        Column('images', 'images', '{:,}'.format),
        Column('note', ''),
    )
    return Table('Class frequencies', columns, rows)


def draw_frequencies(summary):
    """Draw the class frequencies as bars, the most frequent class on top.

    Args:
        summary (Summary): What ``check_dataset`` found.

    Returns:
        matplotlib.figure.Figure: To be saved with ``figure.savefig``.
    """
    order = np.argsort(summary.pixels, kind='stable')
    share = 100 * summary.pixels[order] / max(int(summary.pixels.sum()), 1)
    names = [summary.classes[index] for index in order]
    figure = Figure(figsize=(8, 1.2 + 0.16 * len(names)), layout='constrained')
    axes = figure.subplots()
    axes.barh(names, share, color='tab:blue')
    if share.any():
        exponents = np.log10(share[share > 0])
        axes.set_xscale('log')
        axes.set_xlim(
            10.0 ** (np.ceil(exponents.min()) - 1), 10.0 ** (np.floor(exponents.max()) + 1)
        )
        axes.xaxis.set_major_formatter('{x:g}')
        axes.grid(axis='x', linewidth=0.5)
        axes.set_axisbelow(True)
    axes.set_xlabel('share of the labelled pixels [%]')
    axes.set_title(f'{len(names)} classes, {summary.images:,} images', fontsize=10)
    axes.tick_params(axis='y', labelsize=6)
    axes.margins(y=0.01)
    for name in summary.missing_classes:
        axes.get_yticklabels()[names.index(name)].set_color('tab:red')
    return figure

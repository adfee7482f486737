"""Reads every file of a data set before days of training, and says what is wrong with which."""

from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from mmengine import fileio
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from PIL import UnidentifiedImageError
from torch.utils.data import DataLoader, Dataset

from mmseg_ctx.utils.errors import value_errors
from mmseg_ctx.utils.images import read_image, reason
from mmseg_ctx.utils.tables import Column, Table

# The steps of a pipeline that read image and label; the others change what was read.
LOADING = ('Load', 'Render')


@dataclass
class Summary:
    """What was found: labelled pixels of each class and images that it occurs in, int64 ``[N]``."""

    classes: tuple
    has_labels: bool
    pixels: np.ndarray
    occurrences: np.ndarray
    images: int = 0
    bad_files: int = 0


def check_dataset(config, workers=0, report=print, progress=lambda done, total: None):
    """Read every image and label through the data set's own class and loading steps.

    Args:
        config (Config | dict): The data set's config, ``train_dataloader.dataset`` for instance.
            ``ConcatDataset`` and the like may be around it.
        workers (int): Processes that read; 0 reads in this one. Default: 0.
        report (Callable[[str], None]): Called at once with a line for each problem, which begins
            with the file's path. Default: ``print``.
        progress (Callable[[int, int], None]): Called after each image with the number of images
            read and of all. Default: nothing.

    Returns:
        Summary: Counts of images, bad files and class frequencies.

    Raises:
        ValueError: The data set cannot be built, or it has no images.
    """
    init_default_scope('mmseg')
    parts = [_Reader(part) for part in _without_wrappers(config)]
    classes = parts[0].classes
    pixels, occurrences = np.zeros((2, len(classes)), np.int64)
    summary = Summary(classes, any(part.has_labels for part in parts), pixels, occurrences)
    total = sum(map(len, parts))
    for part in parts:
        for path in part.labels_without_image():
            report(f'{path}: has no image')
            summary.bad_files += 1
        for problems, counts in DataLoader(part, batch_size=None, num_workers=workers):
            for problem in problems:
                report(problem)
            summary.images += 1
            summary.bad_files += len(problems)
            pixels += counts.numpy()
            occurrences += counts.numpy() > 0
            progress(summary.images, total)
    return summary


def _without_wrappers(config):
    """Yield the config of each data set inside ``ConcatDataset`` and the like, each once."""
    if not isinstance(config, dict):
        raise ValueError(f'a data set must be a dict, got {config!r}')
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
            named = [(_name(step), step) for step in config['pipeline']]
            # The others are not built, so that none of them is a reason to refuse the data set.
            self.steps = [
                (name, Compose([step])) for name, step in named if name.startswith(LOADING)
            ]
            self.has_labels = any('Image' not in name for name, _ in self.steps)
            self.dataset = DATASETS.build({**config, 'pipeline': []})
            self.classes = tuple(self.dataset.metainfo['classes'])

    def __len__(self):
        return len(self.dataset)

    def labels_without_image(self):
        """Yield the labels that a data set leaves out where it lists the images of a folder."""
        folder = self.dataset.data_prefix.get('seg_map_path')
        if not self.has_labels or not folder or Path(self.dataset.ann_file or '').is_file():
            return
        place = dict(backend_args=self.dataset.backend_args)
        suffix = self.dataset.seg_map_suffix
        known = {info['seg_map_path'] for info in map(self.dataset.get_data_info, range(len(self)))}
        for name in fileio.list_dir_or_file(folder, False, suffix=suffix, recursive=True, **place):
            path = fileio.join_path(folder, name, **place)
            if path not in known:
                yield path

    def __getitem__(self, index):
        info = self.dataset.get_data_info(index)
        problems, counts = [], np.zeros(len(self.classes), np.int64)
        for name, step in self.steps:
            path = info.get('img_path' if 'Image' in name else 'seg_map_path')
            try:
                largest = _largest(path, self.dataset.backend_args) if path else 0
                if largest > 255 and 'Image' not in name:
                    # The loading step would cut them to their last eight bits.
                    problems.append(f'{path}: has label values up to {largest}')
                else:
                    info = step(info)
            # A broken file can make a reader raise anything.
            except Exception as error:
                problems.append(f'{path or index}: cannot be read: {reason(error)}')
        if wrong := '; '.join(self._faults(info, counts)):
            problems.append(f'{info.get("seg_map_path", index)}: {wrong}')
        return problems, counts

    def _faults(self, info, counts):
        """Yield what is wrong with a label, and add its pixels of each class to ``counts``."""
        label, number = info.get('gt_seg_map'), len(counts)
        if label is None:
            return
        if label.ndim != 2:
            yield f'has shape {" × ".join(map(str, label.shape))}, not one class a pixel'
            return
        pixels = np.bincount(label.ravel(), minlength=number)
        counts += pixels[:number]
        if 'img' in info and info['img'].shape[:2] != label.shape:
            (height, width), (rows, columns) = label.shape, info['img'].shape[:2]
            yield f'is {width}×{height} and its image {columns}×{rows} pixels'
        # As the file has it: the loading step subtracts one where label 0 is ignored.
        shift = int(self.dataset.reduce_zero_label)
        others = np.flatnonzero(pixels[number:]) + number
        if outside := [str(each + shift) for each in others if each != self.dataset.ignore_index]:
            allowed = f'{shift} to {number - 1 + shift}'
            yield f'has label values {", ".join(outside)}; classes are {allowed}'
        elif not counts.any():
            yield 'has no labelled pixel'


def _name(step):
    kind = step['type']
    return kind.rpartition('.')[2] if isinstance(kind, str) else kind.__name__  # without 'mmseg.'


def _largest(path, backend_args):
    """Decode a file completely; return its largest value if they have over eight bits, or 0."""
    # OpenCV reads more formats; where it cannot, the loading step says so.
    with suppress(UnidentifiedImageError):
        image = read_image(path, backend_args)
        if image.mode.startswith(('I', 'F')):
            return int(np.max(image))
    return 0


def frequency_table(summary):
    """Return a table of a summary's classes: their shares of the labelled pixels and the images."""
    columns = (
        Column('name', 'class'),
        Column('pixels', 'pixels', '{:,}'.format),
        Column('share', 'of the pixels [%]', '{:.3f}'.format),
        Column('images', 'images', '{:,}'.format),
        Column('note', ''),
    )
    total = max(int(summary.pixels.sum()), 1)
    numbers = zip(summary.pixels.tolist(), summary.occurrences.tolist(), strict=True)
    rows = []
    for name, (pixels, images) in zip(summary.classes, numbers, strict=True):
        share, note = 100 * pixels / total, '' if pixels else 'never occurs'
        rows.append(dict(name=name, pixels=pixels, share=share, images=images, note=note))
    return Table('Class frequencies', columns, rows)


def draw_frequencies(summary):
    """Return a figure of a summary's class frequencies, the most frequent class on top."""
    rows = sorted(frequency_table(summary).rows, key=itemgetter('share'))
    places, shares = range(len(rows)), [row['share'] for row in rows]
    figure = Figure(figsize=(8, 1.2 + 0.16 * len(rows)), layout='constrained')
    axes = figure.subplots()
    axes.barh(places, shares, color='tab:blue')
    axes.set_yticks(places, [row['name'] for row in rows], parse_math=False)
    if any(shares):
        axes.set_xscale('log')
        lowest, highest = np.log10([min(filter(None, shares)), max(shares)])
        axes.set_xlim(10.0 ** (np.ceil(lowest) - 1), 10.0 ** (np.floor(highest) + 1))
        axes.xaxis.set_major_formatter('{x:g}')
        axes.grid(axis='x', linewidth=0.5)
        axes.set_axisbelow(True)
    axes.set_xlabel('share of the labelled pixels [%]')
    axes.set_title(f'{len(rows)} classes, {summary.images:,} images', fontsize=10)
    axes.tick_params(axis='y', labelsize=6)
    axes.margins(y=0.01)
    for row, label in zip(rows, axes.get_yticklabels(), strict=True):
        if row['note']:
            label.set_color('tab:red')
    return figure

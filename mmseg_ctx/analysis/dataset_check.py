"""Reads every file of a data set before days of training, and says what is wrong with which."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from mmengine import fileio
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from PIL import Image, UnidentifiedImageError
from prettytable import PrettyTable
from torch.utils.data import DataLoader, Dataset

from mmseg_ctx.ops.labels import IGNORED
from mmseg_ctx.utils.datasets import inner_datasets, type_name
from mmseg_ctx.utils.errors import first_names, value_errors
from mmseg_ctx.utils.images import read_image, reason

# The steps of a pipeline that read image and label; the others change what was read.
LOADING = 'Load'


@dataclass
class Summary:
    """What was found: labelled pixels of each class and images that it occurs in, int64 ``[N]``."""

    classes: tuple
    has_labels: bool
    pixels: np.ndarray
    occurrences: np.ndarray
    images: int = 0
    bad_files: int = 0
    wrong_settings: int = 0


def check_dataset(config, workers=0, report=print, progress=lambda done, total: None):
    """Read every image and label through the data set's own class and loading steps.

    Args:
        config (Config | dict): The data set's config, ``train_dataloader.dataset`` for instance.
            ``ConcatDataset`` and the like may be around it.
        workers (int): Processes that read; 0 reads in this one. Default: 0.
        report (Callable[[str], None]): Called at once with a line for each problem, which begins
            with the path of the file, or of the folder where files are missing. Default: ``print``.
        progress (Callable[[int, int], None]): Called after each image with the number of images
            read and of all. Default: nothing.

    Returns:
        Summary: Counts of images, bad files, wrong settings and class frequencies.

    Raises:
        ValueError: The data set cannot be built, it has no images, its parts have different
            classes, or its pipeline has another ``reduce_zero_label``.
    """
    init_default_scope('mmseg')
    if not isinstance(config, dict):
        raise ValueError(f'a data set must be a dict, got {config!r}')
    parts = [_Reader(part) for part in inner_datasets(config)]
    classes = parts[0].classes
    for part in parts[1:]:
        if part.classes != classes:
            alone = first_names(sorted(set(part.classes) ^ set(classes))) or 'another order'
            raise ValueError(
                f'data sets of one loader must have the same classes, and one of '
                f'{parts[0].place!r} and {part.place!r} alone has {alone}'
            )
    pixels, occurrences = np.zeros((2, len(classes)), np.int64)
    summary = Summary(classes, any(part.has_labels for part in parts), pixels, occurrences)
    total = sum(map(len, parts))
    known = {path for part in parts for path in part.label_paths()}
    for part in parts:
        for path in sorted(part.labels_in_folder() - known):
            report(f'{path}: has no image')
            summary.bad_files += 1
        missing = getattr(part.dataset, 'expected_images', 0) - len(part)
        if missing > 0:
            report(f'{part.place}: {missing} images of the data set are missing')
            summary.bad_files += missing
        for problems, counts in DataLoader(part, batch_size=None, num_workers=workers):
            for problem in problems:
                report(problem)
            summary.images += 1
            summary.bad_files += len(problems)
            pixels += counts.numpy()
            occurrences += counts.numpy() > 0
            progress(summary.images, total)
        if part.reduces_zero_label and not pixels[-1] and pixels[:-1].all():
            report(
                f'{part.place}: label 0 is ignored by reduce_zero_label=True, and no label has the '
                f'last value, {len(classes)}: if 0 is a class, set reduce_zero_label=False'
            )
            summary.wrong_settings += 1
    return summary


class _Reader(Dataset):
    """Gives for each image what is wrong with its files, and the pixels of each class ``[N]``."""

    def __init__(self, config):
        prefix = config.get('data_prefix', {})
        self.place = config.get('data_root') or prefix.get('img_path') or config.get('ann_file')
        with value_errors(f'{config.get("type")} cannot read the data set in {self.place!r}'):
            # The others are not built, so that none of them is a reason to refuse the data set.
            named = [(type_name(step), step) for step in config['pipeline']]
            loading = [each for each in named if each[0].startswith(LOADING)]
            self.steps = [(name, Compose([step])) for name, step in loading]
            self.has_labels = any('Image' not in name for name, _ in self.steps)
            self.dataset = _build(config)
            self.classes = tuple(self.dataset.metainfo['classes'])
            self.reduces_zero_label = bool(self.dataset.reduce_zero_label)
            # MMSegmentation's loading step refuses every file if it has another setting.
            settings = {step.get('reduce_zero_label') for _, step in loading}
            if settings - {self.reduces_zero_label, None}:
                raise ValueError('set reduce_zero_label in the data set, not in its pipeline alone')

    def __len__(self):
        return len(self.dataset)

    def label_paths(self):
        """Return the path of each image's label, or None for an image without one."""
        return [self.dataset.get_data_info(index).get('seg_map_path') for index in range(len(self))]

    def labels_in_folder(self):
        """Return all labels of the folder, where a data set takes all images of a folder."""
        folder = self.dataset.data_prefix.get('seg_map_path')
        if not self.has_labels or not folder or Path(self.dataset.ann_file or '').is_file():
            return set()
        place = dict(backend_args=self.dataset.backend_args)
        suffix = self.dataset.seg_map_suffix
        names = fileio.list_dir_or_file(folder, False, suffix=suffix, recursive=True, **place)
        return {fileio.join_path(folder, name, **place) for name in names}

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
        shift = int(self.reduces_zero_label)
        others = np.flatnonzero(pixels[number:]) + number
        # Where 0 is ignored it becomes 255, and so does 255.
        shown = {IGNORED: '0 or 255, which become 255'} if shift else {}
        ignored = self.dataset.ignore_index
        if outside := [shown.get(each, str(each + shift)) for each in others if each != ignored]:
            allowed = f'{shift} to {number - 1 + shift}'
            hint = '' if ignored == IGNORED else f', and ignore_index is {ignored}'
            hint = ', or from 1 with reduce_zero_label=True' if outside == [str(number)] else hint
            yield f'has label values {", ".join(outside)}; classes are {allowed}{hint}'
        elif not counts.any():
            yield 'has no labelled pixel'


def _build(config):
    """Build a data set without its pipeline; if it is empty, say what lies there instead."""
    try:
        return DATASETS.build({**config, 'pipeline': []})
    except ValueError:  # what MMEngine raises where it serialises an empty list
        dataset = DATASETS.build({**config, 'pipeline': [], 'serialize_data': False})
        if len(dataset):
            raise
    place = dict(backend_args=dataset.backend_args)
    if dataset.ann_file and fileio.isfile(dataset.ann_file, **place):
        raise ValueError(f'{dataset.ann_file} lists no image')
    folder = dataset.data_prefix['img_path']
    names = fileio.list_dir_or_file(folder, False, recursive=True, **place)
    there = Counter(Path(name).suffix or name for name in names)
    others = ', '.join(f'{suffix} ({count})' for suffix, count in there.most_common(5))
    raise ValueError(f'{folder} has no {dataset.img_suffix} file; it has {others or "no file"}')


def _largest(path, backend_args):
    """Decode a file completely; return its largest value if they have over eight bits, or 0."""
    # The loading step has limits of its own: OpenCV's, which reads larger images and more formats.
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        image = read_image(path, backend_args)
        return int(np.max(image)) if image.mode.startswith(('I', 'F')) else 0
    except UnidentifiedImageError:
        return 0
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def frequency_table(summary):
    """Return a table of a summary's classes: their shares of the labelled pixels and the images."""
    table = PrettyTable(['class', 'pixels', 'of the pixels [%]', 'images', ''], align='r')
    table.align['class'] = 'l'
    columns = summary.classes, summary.pixels, _shares(summary), summary.occurrences
    for name, pixels, share, images in zip(*columns, strict=True):
        note = '' if pixels else 'never occurs'
        table.add_row([name, f'{pixels:,}', f'{share:.3f}', f'{images:,}', note])
    return table


def _shares(summary):
    return 100 * summary.pixels / max(summary.pixels.sum(), 1)


def draw_frequencies(summary):
    """Return a figure of a summary's class frequencies, the most frequent class on top."""
    shares = _shares(summary)
    order = np.argsort(shares, kind='stable')
    figure = Figure(figsize=(8, 1.2 + 0.16 * len(order)), layout='constrained')
    axes = figure.subplots()
    axes.barh(range(len(order)), shares[order], log=bool(shares.any()))
    axes.set_yticks(range(len(order)), np.array(summary.classes)[order], parse_math=False)
    axes.set_xlabel('share of the labelled pixels [%]; a class that never occurs is red')
    axes.set_title(f'{len(order)} classes, {summary.images:,} images', fontsize=10)
    axes.tick_params(axis='y', labelsize=6)
    axes.margins(y=0.01)
    for index, label in zip(order, axes.get_yticklabels(), strict=True):
        label.set_color('black' if shares[index] else 'tab:red')
    return figure

"""Compare the predictions of several models for one test set: scores, and a sheet of pictures."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import DATASETS
from PIL import Image

from mmseg_ctx.ops.labels import IGNORED
from mmseg_ctx.utils.configs import read_config
from mmseg_ctx.utils.errors import value_errors
from mmseg_ctx.utils.tables import Column, Table
from mmseg_ctx.visualization.labels import class_entries, colour_label

TILE = 1.9
"""Width of a picture in inches."""


def compare_predictions(config, folders, count=6, choose='spread'):
    """Evaluate several models' predictions for a config's test set, and draw some of the images.

    Args:
        config (str | Path): Config file with the test data set and the evaluator.
        folders (dict[str, Path]): Folder of predictions by the model's name: the label maps that
            ``mim test ... --out FOLDER`` writes.
        count (int): How many images are drawn at most. Default: 6.
        choose (str): ``'spread'`` draws images at equal distances over the test set, ``'differ'``
            those where the models differ in the largest share of the pixels, largest first.
            Default: ``'spread'``.

    Returns:
        tuple[Table, matplotlib.figure.Figure]: The mean IoUs in percent, one row for each model;
        and image, ground truth and predictions side by side, one row for each image.

    Raises:
        FileNotFoundError: The config or a prediction does not exist.
        ValueError: The config has no test set with labels or no evaluator, a prediction is no label
            map of its image's size, or one model alone is to differ.

    Example:
        >>> table, figure = compare_predictions('fcn.py', dict(FCN=Path('work_dirs/fcn/maps')))
        >>> figure.savefig('fcn.png')
    """
    if choose == 'differ' and len(folders) < 2:
        raise ValueError(f'only several models can differ, got {", ".join(folders)} alone')
    content = read_config(config, 'test_dataloader.dataset', 'test_evaluator')
    init_default_scope(content.get('default_scope', 'mmseg'))
    with value_errors(f'the test data set of {config} cannot be read'):
        dataset = DATASETS.build(content.test_dataloader.dataset)
    with value_errors(f'the test evaluator of {config} cannot be built'):
        evaluators = {name: Evaluator(content.test_evaluator) for name in folders}
    for evaluator in evaluators.values():
        evaluator.dataset_meta = dataset.metainfo
    differing = []
    for index in range(len(dataset)):
        _, truth, *predictions = _read_row(dataset, index, folders, evaluators)
        differing.append(_differing(truth, predictions))
    shown = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int)
    if choose == 'differ':
        shown = np.argsort(differing, kind='stable')[::-1][:count]
    rows = [_read_row(dataset, index, folders) for index in shown.tolist()]
    titles = ['image', 'ground truth', *folders]
    figure = draw_rows(rows, titles, dataset.metainfo['classes'], dataset.metainfo['palette'])
    metrics = {name: each.evaluate(len(dataset)) for name, each in evaluators.items()}
    return _scores(metrics), figure


def _read_row(dataset, index, folders, evaluators=None):
    """Return an image, its ground truth and the predictions for it, and have these evaluated."""
    with value_errors(f'image {index} of the test data set cannot be read'):
        item = dataset[index]
    sample = item['data_samples']
    if 'gt_sem_seg' not in sample:
        raise ValueError('the test data set must have labels')
    predictions = [_read_prediction(name, folder, sample) for name, folder in folders.items()]
    for name, prediction in zip(evaluators or (), predictions, strict=False):
        sample.pred_sem_seg = PixelData(data=torch.from_numpy(prediction)[None])
        evaluators[name].process([sample])
    image = item['inputs'].numpy()[::-1].transpose(1, 2, 0)
    return [image, sample.gt_sem_seg.data[0].numpy(), *predictions]


def _read_prediction(name, folder, sample):
    """Return the label map that IoUMetric wrote for a data sample: int64 ``[H, W]``."""
    path = folder / f'{Path(sample.img_path).stem}.png'
    if not path.is_file():
        raise FileNotFoundError(
            f'{name} has no prediction for {sample.img_path}: {path} is missing '
            f'(mim test ... --out {folder} writes it)'
        )
    with value_errors(f'the prediction of {name}, {path}, cannot be read'):
        label = np.array(Image.open(path), dtype=np.int64)
    shape = tuple(sample.gt_sem_seg.shape)
    if label.shape != shape:
        raise ValueError(
            f'the prediction of {name}, {path}, must be a label map of shape {shape}, '
            f'got {label.shape}'
        )
    # For a data set with reduce_zero_label, IoUMetric writes classes counted from one.
    return label - 1 if sample.get('reduce_zero_label') else label


def _differing(truth, predictions):
    """Return in which share of the labelled pixels predictions differ."""
    differ = np.any([each != predictions[0] for each in predictions], axis=0)
    return differ[truth != IGNORED].mean() if (truth != IGNORED).any() else 0.0


def _scores(metrics):
    names = [name for name in next(iter(metrics.values())) if name.startswith('mIoU')]
    groups = [
        Column(name, name.removeprefix('mIoU_').replace('mIoU', 'all classes'), '{:.1f}'.format)
        for name in names
    ]
    rows = [dict(values, model=name) for name, values in metrics.items()]
    return Table('mIoU in percent', (Column('model', 'model'), *groups), rows)


def draw_rows(rows, titles, classes, palette):
    """Draw pictures in rows and columns, and below them a legend of the classes in them.

    Args:
        rows (Sequence[Sequence[np.ndarray]]): For each row, the RGB image, uint8 ``[H, W, 3]``, and
            then the label maps, integers ``[H, W]`` in 0..255.
        titles (Sequence[str]): Title of each column.
        classes (Sequence[str]): Name of each class.
        palette (Sequence[Sequence[int]]): RGB in 0..255 of each class.

    Returns:
        matplotlib.figure.Figure: The sheet; ``figure.savefig`` saves it.
    """
    entries = class_entries([label for _, *labels in rows for label in labels], classes, palette)
    columns = 3 * len(titles) // 2
    # The height of a row follows from the shape of its image.
    height = TILE * sum(image.shape[0] / image.shape[1] for image, *_ in rows)
    height += 0.6 + 0.25 * -(-len(entries) // columns)
    figure = Figure(figsize=(TILE * len(titles), height), layout='constrained')
    grid = figure.subplots(len(rows), len(titles), squeeze=False)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=10, parse_math=False)
    for line, (image, *labels) in zip(grid, rows, strict=True):
        pictures = [image, *(colour_label(label, palette) for label in labels)]
        for axes, picture in zip(line, pictures, strict=True):
            axes.imshow(picture, interpolation='nearest')
            axes.set_axis_off()
    place = 'outside lower center'
    figure.legend(handles=entries, loc=place, ncols=columns, fontsize=9, frameon=False)
    return figure

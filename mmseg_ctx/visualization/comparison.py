"""Compare the predictions of several models for one test set: scores, and a sheet of pictures."""

from pathlib import Path

import numpy as np
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import DATASETS
from PIL import Image

from mmseg_ctx.ops.labels import IGNORED
from mmseg_ctx.utils.configs import read_config
from mmseg_ctx.utils.errors import value_errors
from mmseg_ctx.utils.tables import Column, Table
from mmseg_ctx.visualization.panels import Picture, draw_sheet

WIDTH = 1.9
"""Width of a picture in inches."""


def compare_predictions(config, folders, count=6, choose='spread'):
    """Evaluate several models' predictions for a config's test set, and draw some of the images.

    Args:
        config (str | Path): Config file with the test data set and the evaluator.
        folders (dict[str, Path]): Folder of predictions by the model's name: the label maps that
            ``mim test ... --out FOLDER`` writes.
        count (int): How many images are drawn at most. Default: 6.
        choose (str): ``'spread'`` draws images at equal distances over the test set, ``'differ'``
            the images where the models differ in the largest share of pixels, largest first.
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
    with value_errors(f'the test data set or the evaluator of {config} cannot be built'):
        dataset = DATASETS.build(content.test_dataloader.dataset)
        evaluators = {name: Evaluator(content.test_evaluator) for name in folders}
    differing = []
    for evaluator in evaluators.values():
        evaluator.dataset_meta = dataset.metainfo
    for index in range(len(dataset)):
        sample, _, truth, *predictions = _read_row(dataset, index, folders)
        for evaluator, prediction in zip(evaluators.values(), predictions, strict=True):
            sample.pred_sem_seg = PixelData(data=torch.from_numpy(prediction)[None])
            evaluator.process([sample])
        differ = np.any([each != predictions[0] for each in predictions], axis=0)
        differing.append((differ & (truth != IGNORED)).mean())
    shown = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int)
    if choose == 'differ':
        shown = np.argsort(differing, kind='stable')[::-1][:count]
    scores = [dict(each.evaluate(len(dataset)), model=name) for name, each in evaluators.items()]
    columns = [
        Column(name, name.removeprefix('mIoU_').replace('mIoU', 'all classes'), '{:.1f}'.format)
        for name in scores[0]
        if name.startswith('mIoU')
    ]
    table = Table('mIoU in percent', (Column('model', 'model'), *columns), scores)
    rows = [_read_row(dataset, index, folders)[1:] for index in shown.tolist()]
    return table, draw_rows(rows, ['image', 'ground truth', *folders], dataset.metainfo)


def _read_row(dataset, index, folders):
    """Return the data sample of an image, the image, its ground truth and the predictions."""
    with value_errors(f'image {index} of the test data set cannot be read'):
        item = dataset[index]
    sample = item['data_samples']
    if 'gt_sem_seg' not in sample:
        raise ValueError('the test data set must have labels')
    predictions = [_read_prediction(name, folder, sample) for name, folder in folders.items()]
    image = item['inputs'].numpy()[::-1].transpose(1, 2, 0)
    return [sample, image, sample.gt_sem_seg.data[0].numpy(), *predictions]


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


def draw_rows(rows, titles, metainfo):
    """Return a figure with a row for each image, its ground truth and the predictions for it."""
    classes, palette = metainfo['classes'], tuple(metainfo['palette'])
    palettes = [None] + [palette] * (len(titles) - 1)
    mosaic = [list(map(Picture, [''] * len(titles), row, palettes)) for row in rows]
    for panel, title in zip(mosaic[0], titles, strict=True):
        panel.title = title
    aspect = np.mean([image.shape[0] / image.shape[1] for image, *_ in rows])
    return draw_sheet([('', '', mosaic)], classes, palette, WIDTH * len(titles), aspect)

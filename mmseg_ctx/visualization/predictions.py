"""Compare the predictions of several models for one test set: scores, and a sheet of pictures."""

from pathlib import Path

import numpy as np
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import DATASETS
from PIL import Image

from mmseg_ctx.utils.configs import read_config
from mmseg_ctx.utils.errors import value_errors
from mmseg_ctx.utils.tables import Column, Table
from mmseg_ctx.visualization.sheet import draw_sheet


def compare_predictions(config, folders, scenes=6):
    """Evaluate several models' predictions for a config's test set, and draw the first images.

    Args:
        config (str | Path): Config file with the test data set and the evaluator.
        folders (dict[str, Path]): Folder of predictions by the model's name: the label maps that
            ``mim test ... --out FOLDER`` writes.
        scenes (int): How many images are drawn at most. Default: 6.

    Returns:
        tuple[Table, matplotlib.figure.Figure]: The mean IoUs in percent, one row for each model;
        and image, ground truth and predictions side by side, one row for each image.

    Raises:
        FileNotFoundError: The config does not exist.
        ValueError: The config has no test set with labels or no evaluator, or a prediction is
            missing, or is no label map of its image's size.

    Example:
        >>> table, figure = compare_predictions('fcn.py', dict(FCN=Path('work_dirs/fcn/maps')))
        >>> figure.savefig('fcn.png')
    """
    content = read_config(config, 'test_dataloader.dataset', 'test_evaluator')
    init_default_scope(content.get('default_scope', 'mmseg'))
    with value_errors(f'the test data set of {config} cannot be read'):
        dataset = DATASETS.build(content.test_dataloader.dataset)
    with value_errors(f'the test evaluator of {config} cannot be built'):
        evaluator = Evaluator(content.test_evaluator)
    evaluator.dataset_meta = dataset.metainfo
    metrics = {name: _evaluate(evaluator, dataset, folder) for name, folder in folders.items()}
    shown = range(min(scenes, len(dataset)))
    rows = [_sheet_row(_item(dataset, index), folders.values()) for index in shown]
    titles = ['image', 'ground truth', *folders]
    figure = draw_sheet(rows, titles, dataset.metainfo['classes'], dataset.metainfo['palette'])
    return _scores(metrics), figure


def _item(dataset, index):
    with value_errors(f'image {index} of the test data set cannot be read'):
        item = dataset[index]
    if 'gt_sem_seg' not in item['data_samples']:
        raise ValueError('the test data set must have labels')
    return item


def _read_prediction(folder, sample):
    """Return the label map that IoUMetric wrote for a data sample: int64 ``[H, W]``."""
    path = folder / f'{Path(sample.img_path).stem}.png'
    with value_errors(f'{path} cannot be read'):
        label = np.array(Image.open(path), dtype=np.int64)
    shape = tuple(sample.gt_sem_seg.shape)
    if label.shape != shape:
        raise ValueError(f'{path} must be a label map of shape {shape}, got {label.shape}')
    # For a data set with reduce_zero_label, IoUMetric writes classes counted from one.
    return label - 1 if sample.get('reduce_zero_label') else label


def _evaluate(evaluator, dataset, folder):
    """Return the metrics of a folder of predictions: dict[str, float], in percent."""
    for index in range(len(dataset)):
        sample = _item(dataset, index)['data_samples']
        prediction = torch.from_numpy(_read_prediction(folder, sample))
        sample.pred_sem_seg = PixelData(data=prediction[None])
        evaluator.process([sample])
    return evaluator.evaluate(len(dataset))


def _sheet_row(item, folders):
    """Return image, ground truth and each model's prediction for one item of the data set."""
    sample = item['data_samples']
    image = item['inputs'].numpy()[::-1].transpose(1, 2, 0)
    truth = sample.gt_sem_seg.data[0].numpy()
    return [image, truth, *(_read_prediction(folder, sample) for folder in folders)]


def _scores(metrics):
    """Return the mean IoUs of the models as a table, one row for each model."""
    names = [name for name in next(iter(metrics.values())) if name.startswith('mIoU')]
    groups = [
        Column(name, name.removeprefix('mIoU_').replace('mIoU', 'all classes'), '{:.1f}'.format)
        for name in names
    ]
    rows = [dict(values, model=name) for name, values in metrics.items()]
    return Table('mIoU in percent', (Column('model', 'model'), *groups), rows)

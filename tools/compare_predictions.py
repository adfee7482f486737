"""Compare models' predictions for one test set; `--help` says more."""

from argparse import ArgumentTypeError
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, METRICS
from PIL import Image

from mmseg_ctx.commandline import ArgumentParser, run, writing
from mmseg_ctx.measure.options import integer
from mmseg_ctx.measure.table import Column, Table, render
from mmseg_ctx.visualization.sheet import draw_sheet

DESCRIPTION = """\
Compare what several models predicted for one test set: print their mean IoU over all classes and
over each group of classes, and draw image, ground truth and predictions side by side.

The predictions are the label maps that `mim test ... --out FOLDER` writes.
"""
EXAMPLE = """\
example:
  mim test mmseg CONFIG --checkpoint FCN.pth --gpus 0 --out work_dirs/demo/fcn/predictions
  mim test mmseg CONFIG --checkpoint DMNET.pth --gpus 0 --out work_dirs/demo/dmnet/predictions
  python tools/compare_predictions.py CONFIG --out work_dirs/demo/scenes.png \\
      --predictions FCN=work_dirs/demo/fcn/predictions DMNet=work_dirs/demo/dmnet/predictions
"""


def parse(arguments):
    parser = ArgumentParser(description=DESCRIPTION, epilog=EXAMPLE)
    parser.add_argument('config', help='the config whose test data set and evaluator are used')
    parser.add_argument(
        '--predictions',
        nargs='+',
        required=True,
        type=name_and_folder,
        metavar='NAME=FOLDER',
        help="a model's name and the folder of its predictions",
    )
    parser.add_argument('--out', required=True, metavar='FILE', help='the picture to write')
    parser.add_argument(
        '--scenes', type=integer(1), default=6, help='how many images it shows (default: 6)'
    )
    parser.add_argument('--force', action='store_true', help='overwrite FILE')
    return parser.parse_args(arguments)


def name_and_folder(text):
    """Return an argument NAME=FOLDER as name and path."""
    name, _, folder = text.partition('=')
    if not name or not Path(folder).is_dir() or not folder:
        raise ArgumentTypeError(f'must be NAME=FOLDER with a folder that exists, got {text!r}')
    return name, Path(folder)


def read_prediction(folder, sample):
    """The label map that IoUMetric wrote for a data sample: int64 ``[H, W]``."""
    path = folder / f'{Path(sample.img_path).stem}.png'
    label = np.array(Image.open(path), dtype=np.int64)
    # IoUMetric writes the classes of such a data set counted from one.
    return label - 1 if sample.get('reduce_zero_label') else label


def evaluate(config, dataset, folder):
    """The test evaluator's metrics of a folder of predictions: dict[str, float], in percent."""
    metric = METRICS.build(config.test_evaluator)
    metric.dataset_meta = dataset.metainfo
    for item in dataset:
        sample = item['data_samples']
        prediction = torch.from_numpy(read_prediction(folder, sample))
        pair = dict(
            pred_sem_seg=dict(data=prediction), gt_sem_seg=dict(data=sample.gt_sem_seg.data)
        )
        metric.process({}, [pair])
    return metric.evaluate(len(dataset))


def sheet_row(item, folders):
    """Image, ground truth and each model's prediction of one item of the data set."""
    sample = item['data_samples']
    image = item['inputs'].numpy()[::-1].transpose(1, 2, 0)
    truth = sample.gt_sem_seg.data[0].numpy()
    return [image, truth, *(read_prediction(folder, sample) for folder in folders)]


def summary(metrics):
    """The mean IoUs of the models as a table, one line a model."""
    keys = [key for key in next(iter(metrics.values())) if key.startswith('mIoU')]
    groups = [
        Column(key, key.removeprefix('mIoU_').replace('mIoU', 'all classes'), '{:.1f}'.format)
        for key in keys
    ]
    rows = [dict(values, model=name) for name, values in metrics.items()]
    return Table('mIoU in percent', (Column('model', 'model'), *groups), rows)


def main(arguments):
    arguments = parse(arguments)
    config = Config.fromfile(arguments.config)
    MMLogger.get_current_instance().setLevel('WARNING')
    init_default_scope(config.get('default_scope', 'mmseg'))
    dataset = DATASETS.build(config.test_dataloader.dataset)
    predictions = dict(arguments.predictions)
    folders = predictions.values()
    metrics = {name: evaluate(config, dataset, folder) for name, folder in predictions.items()}

    rows = [
        sheet_row(dataset[index], folders) for index in range(min(arguments.scenes, len(dataset)))
    ]
    titles = ['image', 'ground truth', *predictions]
    figure = draw_sheet(rows, titles, dataset.metainfo['classes'], dataset.metainfo['palette'])
    with writing(arguments.out, arguments.force) as temporary:
        figure.savefig(temporary, dpi=150)
    print(render([summary(metrics)], 'text') + f'\npictures: {arguments.out}')


if __name__ == '__main__':
    run(main)

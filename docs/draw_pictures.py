"""Draw diagrams and sheets of the methods' pages; `make pictures` trains their models before.

Each sheet is of one of the first twenty scenes of the test set: the scene that the model predicts
best, or that the refined classifier predicts better than the prior by most. Of several seeds, the
best model is drawn. A method that wraps a head is drawn around DMNet, which tells one ground from
another, after 1,800 iterations.
"""

import json
import subprocess
import sys
from pathlib import Path

from mmengine.runner import find_latest_checkpoint
from mmseg.registry import DATASETS

from mmseg_ctx.checkpoints.segmentor import load_segmentor
from mmseg_ctx.heads.cac import ContextAwareClassifier
from mmseg_ctx.utils.methods import METHODS
from mmseg_ctx.visualization.context import draw_context
from mmseg_ctx.visualization.files import test_dataset_config
from mmseg_ctx.visualization.prediction import predict

DOCS = Path(__file__).parent
SCENES = 20


def draw_sheet(config, checkpoint, path):
    """Draw the sheet of a model into a file, and return the number of the scene."""
    segmentor = load_segmentor(config, checkpoint)
    dataset = DATASETS.build(test_dataset_config(segmentor.cfg))
    items = [dataset[index] for index in range(SCENES)]

    parts = segmentor.modules()
    classifiers = [part for part in parts if isinstance(part, ContextAwareClassifier)]

    def share_right(index, classifier='refined'):
        for part in classifiers:
            part.evaluate(classifier)
        prediction = predict(segmentor, items[index], dataset.metainfo)
        for part in classifiers:
            part.evaluate('refined')
        return (prediction.predicted == prediction.label).mean()

    def gain(index):
        return share_right(index) - share_right(index, 'prior')

    best = max(range(SCENES), key=gain if classifiers else share_right)
    figure = draw_context(segmentor, items[best], dataset.metainfo)
    figure.savefig(path, dpi=120, pil_kwargs=dict(quality=85))
    return best


def main(study):
    for source in sorted(DOCS.glob('diagrams/*.dot')):
        command = ['dot', '-Tsvg', str(source), '-o', str(source.with_suffix('.svg'))]
        subprocess.run(command, check=True)
    for name, method in METHODS.items():
        row = f'{name}-dmnet-long' if method.around else name
        folder = max(Path(study, 'runs', row).glob('seed*'), key=score)
        checkpoint = find_latest_checkpoint(str(folder / 'work_dir'))
        scene = draw_sheet(folder / 'settings.py', checkpoint, DOCS / f'pictures/{name}.jpg')
        print(f'{name}: scene {scene} of the test set, row {row}, {folder.name}')


def score(folder):
    """Return the mIoU of a run's last test."""
    *_, metrics = json.loads((folder / 'result.json').read_text())['metrics'].values()
    return metrics['mIoU']


if __name__ == '__main__':
    main(*sys.argv[1:])

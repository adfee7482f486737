"""Names and colours of the classes, which a checkpoint may lack or give wrongly."""

import pytest
import torch

from mmseg_ctx.checkpoints.segmentor import load_segmentor
from mmseg_ctx.datasets.scenes import CLASSES, PALETTE
from tests.models import write_model

COLOURS = [[index, 0, 255] for index in range(14)]
NAMES = tuple(f'class {index}' for index in range(14))
UNUSABLE = {
    'nothing': None,
    'another type': 'x',
    'a list': [1],
    'no colours': {'classes': NAMES},
    'no names': {'classes': None, 'palette': []},
    'numbers': {'classes': 5, 'palette': 5},
    'fewer colours': {'classes': NAMES, 'palette': COLOURS[1:]},
    'names of another type': {'classes': tuple(range(14)), 'palette': COLOURS},
    'colours of two channels': {'classes': NAMES, 'palette': [[1, 2]] * 14},
    'colours out of range': {'classes': NAMES, 'palette': [[300, 0, -1]] * 14},
    'a tensor': {'classes': NAMES, 'palette': torch.tensor(COLOURS)},
}


def load(folder, dataset_meta):
    config, checkpoint = write_model('FCN', folder)
    content = torch.load(checkpoint, weights_only=True)
    torch.save({**content, 'meta': {'dataset_meta': dataset_meta}}, checkpoint)
    return load_segmentor(config, checkpoint).dataset_meta


def test_classes_are_the_checkpoints(tmp_path):
    meta = {'classes': NAMES, 'palette': COLOURS}
    assert load(tmp_path, meta) == meta


@pytest.mark.parametrize('name', UNUSABLE)
def test_classes_are_the_test_datas_where_the_checkpoints_cannot_be_used(name, tmp_path):
    meta = load(tmp_path, UNUSABLE[name])
    assert tuple(meta['classes']) == tuple(CLASSES)
    assert [tuple(colour) for colour in meta['palette']] == [tuple(colour) for colour in PALETTE]

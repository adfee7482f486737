"""CamVid: what its class reads, and what is ignored."""

from pathlib import Path

import numpy as np
import pytest
from mmengine import Config
from mmseg.registry import DATASETS
from PIL import Image

from tests.helpers import ROOT
from tests.toy import make_toy_dataset

CONFIG = Config.fromfile(ROOT / 'configs/_base_/datasets/camvid.py')
SPLITS = ('train', 'val', 'test')


@pytest.fixture
def camvid(tmp_path, monkeypatch, mmseg_scope):
    """A toy CamVid below the working directory: its root."""
    monkeypatch.chdir(tmp_path)
    make_toy_dataset('camvid', num_images=3)
    return Path('data/camvid')


def build(split='train', **kwargs):
    return DATASETS.build({**CONFIG[f'{split}_dataloader'].dataset, **kwargs})


def write_label(path, label):
    Image.fromarray(label.astype(np.uint8)).save(path)


@pytest.mark.parametrize('split', SPLITS)
def test_each_split_is_read_from_its_folders(camvid, split):
    dataset = build(split)
    paths = [dataset.get_data_info(index) for index in range(len(dataset))]
    names = sorted(path.name for path in (camvid / split).iterdir())
    assert [path['img_path'] for path in paths] == [f'data/camvid/{split}/{n}' for n in names]
    assert [path['seg_map_path'] for path in paths] == [
        f'data/camvid/{split}annot/{n}' for n in names
    ]


def test_label_11_is_ignored_and_classes_can_be_left_out(camvid):
    label = np.arange(64 * 96).reshape(64, 96) % 12
    write_label(min((camvid / 'valannot').iterdir()), label)
    steps = [dict(type='LoadAnnotations')]
    loaded = build('val', pipeline=steps)[0]['gt_seg_map']
    assert np.array_equal(loaded, np.where(label == 11, 255, label))
    assert build('val').metainfo['thin_classes'] == ('pole', 'sign')
    two = build('val', pipeline=steps, metainfo=dict(classes=('car', 'pole')))
    assert two.metainfo['palette'] == [[64, 0, 128], [192, 192, 128]]
    assert np.array_equal(two[0]['gt_seg_map'], np.select([label == 8, label == 2], [0, 1], 255))

"""CamVid: what its class reads, what is ignored, and what a missing folder says."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData
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
    two = build('val', pipeline=steps, metainfo=dict(classes=('car', 'pole')))
    assert two.metainfo['palette'] == [[64, 0, 128], [192, 192, 128]]
    assert np.array_equal(two[0]['gt_seg_map'], np.select([label == 8, label == 2], [0, 1], 255))


def test_metric_leaves_unlabelled_pixels_out_and_reports_thin_classes(camvid):
    label = np.full((64, 96), 11)
    label[0, :8] = 2
    label[1, :8] = 6
    label[2, :8] = 3
    for path in (camvid / 'testannot').iterdir():
        write_label(path, label)
    dataset = build('test', pipeline=[*CONFIG.test_pipeline[:1], *CONFIG.test_pipeline[2:]])
    evaluator = Evaluator(CONFIG.test_evaluator)
    evaluator.dataset_meta = dataset.metainfo
    # Half of the poles, all signs and roads; cars wherever nothing is labelled.
    prediction = torch.full((1, 64, 96), 8)
    prediction[0, 0, :4], prediction[0, 1, :8], prediction[0, 2, :8] = 2, 6, 3
    prediction[0, 0, 4:8] = 3
    for item in dataset:
        sample = item['data_samples']
        sample.pred_sem_seg = PixelData(data=prediction)
        evaluator.process([sample])
    metrics = evaluator.evaluate(len(dataset))
    assert metrics['aAcc'] == pytest.approx(100 * 20 / 24, abs=0.01)
    # IoU: pole 4/8, sign 8/8, road 8/12.
    assert metrics['mIoU_thin'] == pytest.approx(75, abs=0.01)
    assert metrics['mIoU'] == pytest.approx(100 * (0.5 + 1 + 2 / 3) / 3, abs=0.01)


@pytest.mark.parametrize('folder', ['train', 'trainannot'])
def test_a_missing_folder(camvid, folder):
    (camvid / folder).rename('away')
    with pytest.raises(FileNotFoundError, match=f'data/camvid/{folder} is missing.*SegNet'):
        build()
    # What it is not asked for may be missing.
    assert len(build('val')) == 3


def test_a_folder_without_images(camvid):
    for path in (camvid / 'train').iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r'data/camvid/train has no images \(\*\.png\)'):
        build()

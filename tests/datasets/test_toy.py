"""The toy data sets through MMSegmentation's own data set classes and our data configs."""

import hashlib

import numpy as np
import pytest
from mmengine import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from mmseg.utils import get_palette
from PIL import Image

from mmseg_ctx.datasets.toy import LAYOUTS, make_toy_dataset
from mmseg_ctx.evaluation.voc_results import voc_palette
from tests.helpers import ROOT

CLASSES = {
    'ade20k': 150,
    'camvid': 11,
    'cityscapes': 19,
    'coco_stuff10k': 171,
    'coco_stuff164k': 171,
    'pascal_context': 60,
    'pascal_context_59': 59,
    'pascal_voc12_aug': 21,
}
# A file of each kind, as the public data set names it.
FILES = {
    'ade20k': ['images/training/ADE_train_00000001.jpg', 'annotations/validation/ADE_val_*.png'],
    'camvid': ['train/0006R0_f00001.png', 'valannot/0016E5_*.png', 'testannot/Seq05VD_f*.png'],
    'cityscapes': [
        'leftImg8bit/train/aachen/aachen_000001_000019_leftImg8bit.png',
        'gtFine/val/frankfurt/frankfurt_*_000019_gtFine_labelTrainIds.png',
        'gtFine/train/aachen/aachen_*_000019_gtFine_labelIds.png',
        'leftImg8bit/test/berlin/berlin_*_000019_leftImg8bit.png',
    ],
    'coco_stuff10k': [
        'images/test2014/COCO_train2014_000000000003.jpg',
        'annotations/train2014/COCO_train2014_000000000001_labelTrainIds.png',
    ],
    'coco_stuff164k': [
        'images/train2017/000000000001.jpg',
        'annotations/val2017/000000000003_labelTrainIds.png',
    ],
    'pascal_context': [
        'JPEGImages/2008_000001.jpg',
        'SegmentationClassContext/2008_000001.png',
        'ImageSets/SegmentationContext/val.txt',
    ],
    'pascal_context_59': ['SegmentationClassContext/2008_000001.png'],
    'pascal_voc12_aug': [
        'JPEGImages/2007_000001.jpg',
        'SegmentationClassAug/2007_000003.png',
        *(
            f'ImageSets/Segmentation/{split}.txt'
            for split in ('train', 'val', 'trainval', 'aug', 'trainaug', 'test')
        ),
    ],
}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_real_class_reads_it_and_files_have_the_public_names(layout, tmp_path, monkeypatch):
    config = Config.fromfile(ROOT / f'configs/_base_/datasets/{layout}.py')
    root = make_toy_dataset(layout, tmp_path / config.dataset.data_root, num_images=2)
    for pattern in FILES[layout]:
        assert list(root.glob(pattern)), pattern
    monkeypatch.chdir(tmp_path)
    init_default_scope('mmseg')
    for loader in (config.train_dataloader, config.val_dataloader):
        dataset = DATASETS.build(loader.dataset)
        both = layout == 'pascal_voc12_aug' and loader is config.train_dataloader
        assert len(dataset) == (4 if both else 2)
        assert len(dataset.metainfo['classes']) == CLASSES[layout]
        for item in dataset:
            label = item['data_samples'].gt_sem_seg.data
            inside = label[label != 255]
            assert inside.numel() > 0
            assert inside.max() < CLASSES[layout]
            # Only the 60 classes of PASCAL-Context leave nothing unlabelled.
            if loader is config.val_dataloader and layout != 'pascal_context':
                assert (label == 255).any()


@pytest.mark.parametrize(
    ('layout', 'folder', 'lowest', 'highest', 'unlabelled'),
    [
        ('ade20k', 'annotations', 1, 150, 0),
        ('camvid', 'trainannot', 0, 10, 11),
        ('coco_stuff10k', 'annotations', 1, 171, 0),
        ('coco_stuff164k', 'annotations', 0, 170, 255),
        ('pascal_context', 'SegmentationClassContext', 1, 59, 0),
    ],
)
def test_label_encoding(layout, folder, lowest, highest, unlabelled, tmp_path):
    root = make_toy_dataset(layout, tmp_path / 'toy', num_images=60)
    labels = [np.array(Image.open(path)) for path in (root / folder).rglob('*.png')]
    assert {label.dtype for label in labels} == {np.dtype('uint8')}
    values = np.unique(labels)
    assert unlabelled in values
    assert set(values) - {unlabelled} == set(range(lowest, highest + 1))


def test_voc_labels_have_the_palette_of_the_development_kit(tmp_path):
    root = make_toy_dataset('pascal_voc12_aug', tmp_path / 'toy', num_images=1)
    with Image.open(next((root / 'SegmentationClass').iterdir())) as label:
        assert label.mode == 'P'
        assert np.array_equal(np.array(label.getpalette()).reshape(-1, 3)[:21], get_palette('voc'))
    with Image.open(next((root / 'SegmentationClassAug').iterdir())) as label:
        assert label.mode == 'L'
    # The colour of the border between objects.
    assert voc_palette()[255].tolist() == [224, 224, 192]


def test_cityscapes_label_ids_are_of_the_same_pixels(tmp_path):
    root = make_toy_dataset('cityscapes', tmp_path / 'toy', num_images=1)
    path = next(root.glob('gtFine/train/aachen/*_labelIds.png'))
    train_ids = np.array(Image.open(str(path).replace('labelIds', 'labelTrainIds')))
    ids = np.array(Image.open(path))
    for train_id, label_id in {0: 7, 18: 33, 255: 0}.items():
        assert (ids[train_ids == train_id] == label_id).all()


def test_same_seed_gives_the_same_files(tmp_path):
    """The digest is of labels drawn before the file was last rewritten."""
    root = make_toy_dataset('ade20k', tmp_path / 'toy', num_images=2, seed=3)
    labels = [np.array(Image.open(path)) for path in sorted(root.rglob('*.png'))]
    assert hashlib.sha256(np.stack(labels)).hexdigest()[:16] == 'ed9559cc2b441c4e'


def test_existing_data_are_left_alone(tmp_path, monkeypatch):
    (tmp_path / 'photo.jpg').write_text('mine')
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')
    for out in (tmp_path, tmp_path / 'photo.jpg', '.'):
        with pytest.raises(FileExistsError, match='not an empty folder'):
            make_toy_dataset('ade20k', out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['here', 'photo.jpg']

"""The toy data sets through MMSegmentation's own data set classes and our data configs."""

import pytest
from mmengine import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS

from mmseg_ctx.datasets.toy import LAYOUTS, make_toy_dataset
from tests.helpers import ROOT

CLASSES = dict(ade20k=150, camvid=11, cityscapes=19, coco_stuff=171, pascal_context=60)
CLASSES |= dict(pascal_context_59=59, pascal_voc12=21)
FILES = dict(ade20k='annotations/validation/*.png', camvid='testannot/*.png')
FILES |= dict(cityscapes='gtFine/val/*_gtFine_labelTrainIds.png')


@pytest.mark.parametrize('layout', LAYOUTS)
def test_the_real_class_reads_it(layout, tmp_path, monkeypatch):
    config = Config.fromfile(ROOT / f'configs/_base_/datasets/{layout}.py')
    root = make_toy_dataset(layout, tmp_path / config.dataset.data_root, num_images=2)
    assert list(root.glob(FILES.get(layout, '**/*')))
    monkeypatch.chdir(tmp_path)
    init_default_scope('mmseg')
    number = CLASSES[max((name for name in CLASSES if layout.startswith(name)), key=len)]
    for name in ('train', 'val', 'test'):
        dataset = DATASETS.build(config[f'{name}_dataloader'].dataset)
        several = name == 'train' and layout in ('pascal_voc12_aug', 'cityscapes_trainval')
        assert len(dataset) == (4 if several else 2)
        assert len(dataset.metainfo['classes']) == number
        for item in dataset:
            sample = item['data_samples']
            if name == 'test' and layout.endswith('trainval'):
                assert 'gt_sem_seg' not in sample  # the server has these labels
                continue
            label = sample.gt_sem_seg.data
            inside = label[label != 255]
            assert inside.numel() > 0
            assert inside.max() < number
            if name == 'val':
                assert (label == 255).any()


def test_the_same_seed_gives_the_same_files(tmp_path):
    def files(seed):
        root = make_toy_dataset('ade20k', tmp_path / str(len(list(tmp_path.iterdir()))), seed=seed)
        return [path.read_bytes() for path in sorted(root.rglob('*.png'))]

    first = files(3)
    assert first == files(3) != files(4)


def test_existing_data_are_left_alone(tmp_path):
    (tmp_path / 'photo.jpg').write_text('mine')
    for out in (tmp_path, tmp_path / 'photo.jpg'):
        with pytest.raises(FileExistsError, match='not an empty folder'):
            make_toy_dataset('ade20k', out)
    assert [path.name for path in tmp_path.iterdir()] == ['photo.jpg']

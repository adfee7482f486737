"""A config for any folder of images and labels: made-up folders, and what cannot be guessed."""

import json
import runpy
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.registry import DATASETS, MODELS
from mmseg.utils import register_all_modules
from PIL import ExifTags, Image

from mmseg_ctx.datasets.label_files import Labels, decide_encoding, read_classes
from mmseg_ctx.datasets.new_config import BACKBONES, CHOICES
from tests.helpers import ROOT, error_line, exit_status

MAIN = runpy.run_path(str(ROOT / 'tools/new_config.py'))['main']
CAMVID = ROOT / '../shared/camvid'
COLOURS = {(9, 9, 9): 0, (200, 30, 30): 1, (30, 200, 30): 2}


def write(path, label, image=True):
    """Write a label, or the image that belongs to it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if image:
        values = label if label.ndim == 2 else label[..., 0]
        label = np.stack([values * 37 % 256] * 3, axis=2)
    Image.fromarray(label.astype(np.uint8)).save(path)


def label_map(values, seed, size=(48, 64)):
    cells = np.random.default_rng(seed).choice(values, size=(size[0] // 16, size[1] // 16))
    return cells.repeat(16, axis=0).repeat(16, axis=1)


def splits_inside():
    """Folders images/{train,val,test} and labels/{train,val}; JPEG and PNG; classes.txt."""
    for split, number in (('train', 3), ('val', 2), ('test', 1)):
        for index in range(number):
            label = label_map([0, 1, 2, 255], index)
            write(f'data/images/{split}/{index}.jpg', label)
            if split != 'test':
                write(f'data/labels/{split}/{index}.png', label, image=False)
    Path('data/classes.txt').write_text('road\ntraffic light\ntree 3\n')
    return [], ('road', 'traffic light', 'tree 3')


def splits_around():
    """Folders {Train,valid}/{Images,masks}; masks of 0 and 255; images of two suffixes."""
    for split in ('Train', 'valid'):
        for index, suffix in enumerate(('.PNG', '.jpg', '.jpg')):
            label = label_map([0, 255], index)
            write(f'data/{split}/Images/{index}{suffix}', label)
            write(f'data/{split}/masks/{index}_mask.png', label, image=False)
    return ['--method', 'dmnet'], ('background', 'foreground')


def no_splits():
    """Two folders of other names; colours; folders inside of them."""
    for index in range(5):
        label = label_map(range(3), index)
        colours = np.array(list(COLOURS))[label]
        write(f'data/photos/{"ab"[index % 2]}/{index}.png', colours)
        write(f'data/gt 1/{"ab"[index % 2]}/{index}.PNG', colours, image=False)
    Path('colours.csv').write_text('name,r,g,b\nroad,9,9,9\nroof,200,30,30\ntree,30,200,30\n')
    options = ['--images', 'photos', '--labels', 'gt 1', '--classes', 'colours.csv']
    return [*options, '--method', 'fcn'], ('road', 'roof', 'tree')


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    register_all_modules()


def new_config(*options):
    assert MAIN(['data', '--out', 'new.py', '--no-pretrained', *options]) == 0
    return Config.fromfile('new.py')


@pytest.mark.usefixtures('quick_runs')
@pytest.mark.parametrize(
    'layout',
    [splits_inside, *(pytest.param(f, marks=pytest.mark.slow) for f in (splits_around, no_splits))],
)
def test_a_made_up_folder_trains(layout, capsys):
    options, classes = layout()
    config = new_config(*options, '--iterations', '2', '--batch-size', '2', '--for', 'cpu')
    assert '_base_' not in Path('new.py').read_text()
    printed = capsys.readouterr().out
    assert 'mim train mmseg new.py' in printed
    for name in ('train', 'val'):
        config[f'{name}_dataloader'] |= dict(num_workers=0, persistent_workers=False)
    name = layout.__name__
    config.merge_from_dict({'work_dir': 'work', 'experiment_name': name, 'visualizer.name': name})
    runner = Runner.from_cfg(config)
    runner.train()
    metainfo = runner.val_dataloader.dataset.metainfo
    assert metainfo['classes'] == classes
    assert len(runner.train_dataloader.dataset) == (4 if layout is no_splits else 3)
    [scalars] = Path('work').glob('*/vis_data/scalars.json')
    last = json.loads(scalars.read_text().splitlines()[-1])
    assert last['mIoU'] >= 0
    assert last['val_loss'] > 0
    assert Path('work/iter_2.pth').exists()
    # The tool that looks at it finds nothing wrong.
    check = runpy.run_path(str(ROOT / 'tools/check_dataset.py'))['main']
    assert check(['new.py']) == check(['new.py', '--split', 'val']) == 0


def test_labels_written_anew_are_the_classes_of_their_colours():
    options, _ = no_splits()
    new_config(*options)
    for path in Path('new_labels').rglob('*.png'):
        [source] = Path('data/gt 1').rglob(f'{path.stem}.PNG')
        colours = np.asarray(Image.open(source)).reshape(-1, 3).tolist()
        expected = [COLOURS[tuple(colour)] for colour in colours]
        assert np.asarray(Image.open(path)).ravel().tolist() == expected
    names = Path('new_train.txt').read_text().split()
    assert sorted([*names, *Path('new_val.txt').read_text().split()]) == [
        *('a/0', 'a/2', 'a/4', 'b/1', 'b/3')
    ]
    # The draw is that of the seed, and nothing is overwritten unless it is asked for.
    assert exit_status(MAIN, 'data', '--out', 'new.py', *options) == 2
    new_config(*options, '--force')
    assert Path('new_train.txt').read_text().split() == names


@pytest.mark.skipif(not CAMVID.is_dir(), reason='../shared/camvid is not there')
def test_camvid_by_options():
    text = 'data --images {split} --labels {split}annot --ignore 11 --for cuda'
    Path('data').symlink_to(CAMVID.resolve())
    config = new_config(*text.split()[1:])
    assert (config.num_classes, config.ignore_index, config.crop_size) == (11, 11, (360, 480))
    dataset = DATASETS.build(config.train_dataloader.dataset)
    assert len(dataset) == 367
    sample = dataset[0]['data_samples'].gt_sem_seg.data
    assert set(sample.unique().tolist()) <= {*range(12)}
    assert 270 <= sample.shape[1] <= 360  # the pipeline makes some images smaller, by 0.75


@pytest.mark.parametrize('method', CHOICES)
def test_every_method_on_every_backbone(method):
    splits_inside()
    for backbone in BACKBONES:
        config = new_config('--method', method, '--backbone', backbone, '--force')
        assert MODELS.build(config.model.decode_head).num_classes == 3
        in_cac = config.model.decode_head.type == 'ContextAwareClassifierHead'
        assert in_cac == method.startswith('cac-')
        assert config.model.backbone.get('init_cfg') is config.model.get('pretrained') is None
        assert config.param_scheduler[-1].end == config.train_cfg.max_iters


AB, ZERO = dict(names=['a', 'b']), dict(reduce_zero_label=True)


def labels(*values):
    return Labels(pixels=Counter(dict.fromkeys(values, 10)))


@pytest.mark.parametrize(
    ('values', 'options', 'classes', 'expected'),
    [
        # As MMSegmentation reads them.
        ([0, 1, 2], {}, ['0', '1', '2'], {}),
        ([1, 2, 3, 255], {}, ['1', '2', '3'], ZERO),
        ([0, 1, 2], dict(ignore=[0]), ['1', '2'], ZERO),
        ([0, 1, 2], dict(AB, ignore=[2]), ['a', 'b'], dict(ignore_index=2)),
        ([0, 1, 2], dict(AB, ignore=[0]), ['a', 'b'], ZERO),
        # The first class, or the last one, in no label.
        ([1, 2], dict(names=['a', 'b', 'c'], ignore=[0]), ['a', 'b', 'c'], ZERO),
        ([1, 2], dict(names=['a', 'b', 'c'], ignore=[255]), ['a', 'b', 'c'], {}),
        ([1], dict(AB, keys=[0, 1]), ['a', 'b'], {}),
        # Written anew.
        ([0, 255], {}, ['background', 'foreground'], dict(indices={0: 0, 255: 1})),
        ([0, 1, 2, 3], dict(ignore=[1]), ['0', '2', '3'], dict(indices={0: 0, 2: 1, 3: 2})),
        ([0, 1, 2, 255], dict(ignore=[2]), ['0', '1'], dict(indices={0: 0, 1: 1})),
        ([7, 8000, 255], dict(AB, keys=[7, 8000]), ['a', 'b'], dict(indices={7: 0, 8000: 1})),
        (
            [(0, 0, 0), (1, 2, 3)],
            dict(AB, keys=[(1, 2, 3), (4, 5, 6)], ignore=[(0, 0, 0)]),
            ['a', 'b'],
            dict(indices={(1, 2, 3): 0, (4, 5, 6): 1}),
        ),
    ],
)
def test_what_values_mean(values, options, classes, expected):
    encoding = decide_encoding(labels(*values), **options)
    usual = dict(reduce_zero_label=False, ignore_index=255, indices=None)
    assert encoding.classes == classes
    assert {name: getattr(encoding, name) for name in usual} == usual | expected


@pytest.mark.parametrize(
    ('values', 'options', 'question'),
    [
        ([0, 1, 2], dict(names=['a', 'b']), '--ignore 0 if 0 is unlabelled, --ignore 2 if 2 is'),
        ([1, 2], dict(names=['a', 'b', 'c']), '--ignore 0 if the first class is 1, --ignore 255'),
        ([0, 7], dict(names=['a', 'b']), 'values up to 7, and there are 2 classes: --classes'),
        ([0, 60, 120], {}, '0, 60, 120: --classes'),
        (
            [0, 1000],
            {},
            "the labels have values up to 1000: --classes FILE, with a line 'NAME, VALUE'",
        ),
        ([(1, 2, 3), (0, 0, 9)], {}, '2 colours, such as (0, 0, 9), (1, 2, 3): --classes FILE'),
        ([(1, 2, 3), (7, 8, 9)], dict(names=['a'], keys=[(1, 2, 3)]), '--ignore 7,8,9'),
    ],
)
def test_questions_about_values(values, options, question):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is below
        decide_encoding(labels(*values), **options)
    assert question in str(error.value)


@pytest.mark.parametrize(
    ('name', 'text', 'expected'),
    [
        ('a.txt', '1 2 3\tcar\n4 5 6 tall tree', (['car', 'tall tree'], [(1, 2, 3), (4, 5, 6)])),
        ('a.txt', 'a tree: 1,2,3::\nb:4,5,6::', (['a tree', 'b'], [(1, 2, 3), (4, 5, 6)])),
        ('a.txt', 'sky, 7\nroad,12', (['sky', 'road'], [7, 12])),
        ('a.json', '{"classes": ["a"], "palette": [[1, 2, 3]]}', (['a'], [(1, 2, 3)])),
        ('a.json', '[{"title": "a", "color": "#010203"}]', (['a'], [(1, 2, 3)])),
        ('a.json', '{"a": [1, 2, 3]}', (['a'], [(1, 2, 3)])),
    ],
)
def test_files_of_classes(name, text, expected):
    Path(name).write_text(text)
    assert read_classes(Path(name)) == expected


def remove(path):
    return lambda: Path(path).unlink()


@pytest.mark.parametrize(
    ('change', 'options', 'message'),
    [
        (lambda: Path('data/images').rename('data/x'), [], 'labels, x: name them with --images'),
        (remove('data/labels/train/0.png'), [], 'train/0.jpg has no label in data/labels/train'),
        (remove('data/images/val/1.jpg'), [], '--only-pairs leaves such files out'),
        (
            lambda: write('data/labels/train/0.png', label_map([0], 0, (32, 32)), False),
            [],
            'labels/train/0.png is 32×32 and its image 64×48 pixels',
        ),
        (
            lambda: Image.open('data/labels/train/0.png').save('data/labels/train/0.png', 'jpeg'),
            [],
            'labels/train/0.png is a JPEG file',
        ),
        (
            lambda: Path('data/labels/val/1.png').write_bytes(b'not an image'),
            [],
            'labels/val/1.png cannot be read: no image',
        ),
        (lambda: Path('data/classes.txt').write_text('a\na\n'), [], "the class 'a' twice"),
    ],
)
def test_what_cannot_be_guessed_is_one_line(change, options, message, capsys):
    splits_inside()
    change()
    assert message in error_line(capsys, MAIN, 'data', '--out', 'new.py', *options)


def test_a_photograph_that_is_to_be_turned():
    """OpenCV turns it, and so does whoever labels it."""
    splits_inside()
    label = label_map([0, 1, 2], 0)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(np.stack([label.T] * 3, 2).astype(np.uint8)).save(
        'data/images/train/0.jpg', exif=exif
    )
    write('data/labels/train/0.png', label, image=False)
    config = new_config()
    sample = DATASETS.build(config.train_dataloader.dataset)[0]
    assert sample['inputs'].shape[1:] == sample['data_samples'].gt_sem_seg.shape


@pytest.mark.parametrize('mode', ['RGB', 'LA', '1', 'I;16', 'P'])
def test_labels_in_other_modes(mode):
    splits_inside()
    values = np.eye(48, 64, dtype=np.uint8)
    label = Image.fromarray(values)
    if mode == 'P':
        label.putpalette([9, 9, 9, 200, 0, 0])
    elif mode == '1':
        label = Image.fromarray(values.astype(bool))
    else:
        label = label.convert(mode)
    for path in Path('data/labels').rglob('*.png'):
        label.save(path)
    config = new_config()
    dataset = DATASETS.build(
        config.train_dataloader.dataset | dict(pipeline=[dict(type='LoadAnnotations')])
    )
    assert np.array_equal(dataset[0]['gt_seg_map'], values)


def test_lists_of_a_split():
    for name in ('a', 'b', 'c', 'd'):
        write(f'data/JPEGImages/{name}.jpg', label_map([0, 1], 0))
        if name != 'd':
            write(f'data/SegmentationClass/{name}.png', label_map([0, 1], 0), image=False)
    lists = Path('data/ImageSets/Segmentation')
    lists.mkdir(parents=True)
    (lists / 'train.txt').write_text('a\nc.jpg\n')
    (lists / 'val.txt').write_text('b\n')
    config = new_config()
    assert len(DATASETS.build(config.train_dataloader.dataset)) == 2
    assert Path('new_val.txt').read_text() == 'b\n'
    (lists / 'val.txt').write_text('d\n')
    assert exit_status(MAIN, 'data', '--out', 'other.py') == 2

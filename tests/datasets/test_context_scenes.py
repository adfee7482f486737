"""The data set and its transform: what a pipeline, a loader and a config rely on."""

from importlib import import_module

import numpy as np
import pytest
import torch
from mmengine import fileio
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import DATASETS
from PIL import Image
from torch.utils.data import DataLoader

from mmseg_ctx.datasets import ContextScenesDataset, RenderContextScene
from mmseg_ctx.datasets.scenes import CLASSES, render_scene
from tests.helpers import ROOT

BASE = ROOT / 'configs/_base_/datasets/context_scenes.py'
RENDER = dict(type='RenderContextScene')
PACK = dict(type='PackSegInputs')


@pytest.fixture(autouse=True)
def _mmseg_scope():
    import_module('mmseg.datasets.transforms')
    init_default_scope('mmseg')


def test_an_item_is_the_scene_of_its_seed_and_index():
    dataset = ContextScenesDataset(num_images=5, image_size=(48, 64), seed=3, pipeline=[RENDER])
    assert len(dataset) == 5
    image, label = render_scene(3, 4, 48, 64)
    item = dataset[4]
    assert np.array_equal(item['img'], image[..., ::-1])
    assert item['img'].flags.c_contiguous
    assert np.array_equal(item['gt_seg_map'], label)
    assert item['seg_fields'] == ['gt_seg_map']
    assert item['img_shape'] == item['ori_shape'] == (48, 64)


def test_an_item_is_the_same_again():
    dataset = ContextScenesDataset(num_images=2, image_size=32, pipeline=[RENDER])
    dataset[1]['gt_seg_map'][:] = 0
    assert dataset[1]['seg_fields'] == ['gt_seg_map']
    assert np.array_equal(dataset[1]['gt_seg_map'], render_scene(0, 1, 32, 32)[1])


@pytest.mark.parametrize('workers', [1, 2])
def test_workers_draw_what_the_main_process_draws(workers):
    dataset = ContextScenesDataset(num_images=6, image_size=32, pipeline=[RENDER, PACK])
    loaders = [
        DataLoader(dataset, batch_size=2, num_workers=count, collate_fn=pseudo_collate)
        for count in (0, workers)
    ]
    for alone, shared in zip(*loaders, strict=True):
        for first, second in zip(alone['inputs'], shared['inputs'], strict=True):
            assert torch.equal(first, second)
        for first, second in zip(alone['data_samples'], shared['data_samples'], strict=True):
            assert torch.equal(first.gt_sem_seg.data, second.gt_sem_seg.data)
            assert first.img_path == second.img_path


def test_each_scene_has_a_name_of_its_own():
    names = [
        item['img_path']
        for seed in (0, 1)
        for size in (32, (32, 64))
        for varied in (False, True)
        for item in ContextScenesDataset(20, size, seed, varied_objects=varied)
    ]
    assert len(set(names)) == len(names)


def test_metainfo_names_the_groups():
    metainfo = ContextScenesDataset(num_images=1).metainfo
    assert metainfo['classes'] == CLASSES
    assert metainfo['context_classes'] == ('water', 'sand', 'road', 'grass')
    assert metainfo['relative_classes'] == ('dark crate', 'light crate')
    assert metainfo['thin_classes'] == ('pole', 'wire')
    assert len(metainfo['palette']) == len(CLASSES)
    assert len({tuple(colour) for colour in metainfo['palette']}) == len(CLASSES)


@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(reduce_zero_label=True),
        dict(metainfo=dict(classes=('water', 'sand', 'road', 'grass', 'sky'))),
    ],
    ids=['all', 'reduced', 'some classes'],
)
def test_labels_are_mapped_as_from_a_file(options, tmp_path):
    dataset = ContextScenesDataset(num_images=8, image_size=64, pipeline=[RENDER], **options)
    for index in range(8):
        item = dataset[index]
        path = tmp_path / f'{index}.png'
        Image.fromarray(render_scene(0, index, 64, 64)[1]).save(path)
        from_file = dict(
            seg_map_path=str(path),
            seg_fields=[],
            label_map=dataset.label_map,
            reduce_zero_label=dataset.reduce_zero_label,
        )
        assert np.array_equal(item['gt_seg_map'], LoadAnnotations()(from_file)['gt_seg_map'])


def test_varied_objects_are_left_out():
    dataset = ContextScenesDataset(3, 64, seed=3, varied_objects=True, pipeline=[RENDER])
    for index in range(3):
        image, label = render_scene(3, index, 64, 64, varied_objects=True)
        assert np.array_equal(dataset[index]['img'], image[..., ::-1])
        assert np.array_equal(dataset[index]['gt_seg_map'], label)


@pytest.mark.parametrize(
    'options', [dict(), dict(reduce_zero_label=True), dict(varied_objects=True)]
)
def test_steps_that_load_files_read_what_the_transform_draws(options):
    load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
    drawn, loaded = (
        ContextScenesDataset(3, (40, 64), seed=2, pipeline=pipeline, **options)
        for pipeline in ([RENDER], load)
    )
    for index in range(3):
        for name in ('img', 'gt_seg_map'):
            assert np.array_equal(drawn[index][name], loaded[index][name])
        for name in ('img_shape', 'ori_shape', 'seg_fields'):
            assert drawn[index][name] == loaded[index][name]


@pytest.mark.parametrize(
    'name',
    [
        'scene.png',
        'context_scene_1_000003_128x128.jpg',
        'context_scene_1_000003_128x16.png',
        'context_scene_-1_000003_128x128.png',
        'context_scene_1_000003_128x128_label_varied.png',
        'folder/context_scene_1_000003_128x128.png',
        'context_scene_1_000003_128x128.png\n',
    ],
)
def test_a_path_of_no_scene_is_named(name):
    with pytest.raises(FileNotFoundError) as raised:
        fileio.get(f'context-scenes://{name}')
    assert repr(f'context-scenes://{name}') in str(raised.value)
    assert 'SEED_INDEX_HEIGHTxWIDTH' in str(raised.value)
    assert '\n' not in str(raised.value)


def test_image_and_label_can_be_drawn_apart():
    dataset = ContextScenesDataset(num_images=1, image_size=32)
    results = RenderContextScene(label=False)(dataset[0])
    assert 'gt_seg_map' not in results
    assert results['seg_fields'] == []
    results['img'] = None
    results = RenderContextScene(image=False)(results)
    assert results['img'] is None
    assert results['gt_seg_map'].shape == (32, 32)


def test_training_and_validation_share_no_scene():
    config = Config.fromfile(BASE)
    seeds = [config[f'{name}_dataloader'].dataset.seed for name in ('train', 'val')]
    assert len(set(seeds)) == 2
    schedule = Config.fromfile(ROOT / 'configs/_base_/schedules/schedule_context_scenes.py')
    loader = config.train_dataloader
    assert loader.dataset.num_images >= loader.batch_size * schedule.train_cfg.max_iters


def test_augmentation_at_test_time_keeps_the_label():
    config = Config.fromfile(BASE)
    dataset = config.test_dataloader.dataset
    plain = DATASETS.build(dataset)[0]
    augmented = DATASETS.build(dict(dataset, pipeline=config.tta_pipeline))[0]
    assert len(augmented['inputs']) == 6
    for sample in augmented['data_samples']:
        assert torch.equal(sample.gt_sem_seg.data, plain['data_samples'].gt_sem_seg.data)
        assert sample.ori_shape == (128, 128)
    assert torch.equal(augmented['inputs'][2], plain['inputs'])
    assert torch.equal(augmented['inputs'][3], plain['inputs'].flip(-1))


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        (dict(num_images=0), ValueError, 'num_images must be an integer >= 1, got 0'),
        (dict(num_images=2.0), TypeError, 'num_images must be an integer >= 1, got 2.0'),
        (dict(num_images='9'), TypeError, "num_images must be an integer >= 1, got '9'"),
        (dict(seed=-1), ValueError, 'seed must be an integer >= 0, got -1'),
        (dict(seed=None), TypeError, 'seed must be an integer >= 0, got None'),
        (dict(varied_objects=0.5), TypeError, 'varied_objects must be True or False, got 0.5'),
        (dict(image_size=31), ValueError, 'image_size must be .* >= 32.*, got 31'),
        (dict(image_size=128.0), TypeError, 'image_size must be .*, got 128.0'),
        (dict(image_size=True), TypeError, 'image_size must be .*, got True'),
        (dict(image_size=()), ValueError, r'image_size must be .*, got \(\)'),
        (dict(image_size=(64, 16)), ValueError, r'image_size must be .*, got \(64, 16\)'),
        (dict(image_size=(64,)), ValueError, r'image_size must be .*, got \(64,\)'),
        (dict(image_size=(64, 64, 3)), ValueError, r'image_size must be .*, got \(64, 64, 3\)'),
        (dict(image_size='128'), TypeError, "image_size must be .*, got '128'"),
    ],
)
def test_wrong_arguments_are_named(options, error, message):
    with pytest.raises(error, match=message) as raised:
        ContextScenesDataset(**options)
    assert '\n' not in str(raised.value)


def test_wrong_options_of_the_transform_are_named():
    with pytest.raises(TypeError, match=r'^image '):
        RenderContextScene(image='yes')

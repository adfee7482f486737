"""The data set and its transform: what a pipeline, a loader and a config rely on."""

from importlib import import_module

import numpy as np
import pytest
import torch
from mmengine import fileio
from mmengine.registry import init_default_scope
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image
from torch.utils.data import DataLoader

from mmseg_ctx.datasets import ContextScenesDataset
from mmseg_ctx.datasets.scenes import CLASSES, render_scene

RENDER = dict(type='RenderContextScene')
PACK = dict(type='PackSegInputs')


@pytest.fixture(autouse=True)
def _mmseg_scope():
    import_module('mmseg.datasets.transforms')
    init_default_scope('mmseg')


@pytest.mark.parametrize('varied', [False, True])
def test_an_item_is_the_scene_of_its_seed_and_index(varied):
    dataset = ContextScenesDataset(5, (48, 64), 3, varied_objects=varied, pipeline=[RENDER])
    assert len(dataset) == 5
    image, label = render_scene(3, 4, 48, 64, varied_objects=varied)
    dataset[4]['gt_seg_map'][:] = 0  # is no item's memory
    item = dataset[4]
    assert np.array_equal(item['img'], image[..., ::-1])
    assert item['img'].flags.c_contiguous
    assert np.array_equal(item['gt_seg_map'], label)
    assert item['seg_fields'] == ['gt_seg_map']
    assert item['img_shape'] == item['ori_shape'] == (48, 64)


def test_workers_draw_what_the_main_process_draws():
    dataset = ContextScenesDataset(num_images=6, image_size=32, pipeline=[RENDER, PACK])
    loaders = [DataLoader(dataset, None, num_workers=count) for count in (0, 2)]
    for alone, shared in zip(*loaders, strict=True):
        assert torch.equal(alone['inputs'], shared['inputs'])
        first, second = alone['data_samples'], shared['data_samples']
        assert torch.equal(first.gt_sem_seg.data, second.gt_sem_seg.data)
        assert first.img_path == second.img_path


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
        'context_scene_1_000003_128x16.png',
        'context_scene_-1_000003_128x128.png',
        'context_scene_1_000003_128x128.png\n',
    ],
)
def test_a_path_of_no_scene_is_named(name):
    with pytest.raises(FileNotFoundError) as raised:
        fileio.get(f'context-scenes://{name}')
    assert repr(f'context-scenes://{name}') in str(raised.value)
    assert 'SEED_INDEX_HEIGHTxWIDTH' in str(raised.value)
    assert '\n' not in str(raised.value)

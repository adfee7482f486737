"""The data set and its transform: what a pipeline, a loader and a config rely on."""

import numpy as np
import pytest
import torch
from mmengine import fileio
from torch.utils.data import DataLoader

from mmseg_ctx.datasets import ContextScenesDataset
from mmseg_ctx.datasets.scenes import CLASSES, render_scene

pytestmark = pytest.mark.usefixtures('mmseg_scope')
LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
PACK = dict(type='PackSegInputs')


def test_an_item_is_the_scene_of_its_seed_and_index():
    dataset = ContextScenesDataset(5, (48, 64), 3, pipeline=LOAD)
    assert len(dataset) == 5
    image, label = render_scene(3, 4, 48, 64)
    item = dataset[4]
    assert np.array_equal(item['img'], image[..., ::-1])
    assert np.array_equal(item['gt_seg_map'], label)
    assert item['seg_fields'] == ['gt_seg_map']
    assert item['img_shape'] == item['ori_shape'] == (48, 64)


def test_workers_draw_what_the_main_process_draws():
    dataset = ContextScenesDataset(num_images=6, image_size=32, pipeline=[*LOAD, PACK])
    loaders = [DataLoader(dataset, None, num_workers=count) for count in (0, 2)]
    for alone, shared in zip(*loaders, strict=True):
        assert torch.equal(alone['inputs'], shared['inputs'])
        first, second = alone['data_samples'], shared['data_samples']
        assert torch.equal(first.gt_sem_seg.data, second.gt_sem_seg.data)
        assert first.img_path == second.img_path


def test_some_classes_alone():
    metainfo = dict(classes=('water', 'sand', 'road', 'grass', 'sky'))
    dataset = ContextScenesDataset(8, 64, pipeline=LOAD, metainfo=metainfo)
    for index in range(8):
        label = render_scene(0, index, 64, 64)[1]
        chosen = [label == CLASSES.index(name) for name in metainfo['classes']]
        assert np.array_equal(dataset[index]['gt_seg_map'], np.select(chosen, range(5), 255))


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

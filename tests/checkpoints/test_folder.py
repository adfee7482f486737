"""Models in folders: weights as safetensors and a config, which need neither data nor a pickle."""

from unittest import mock

import numpy as np
import pytest
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from mmseg.apis import MMSegInferencer, inference_model, init_model
from mmseg.datasets.transforms import PackSegInputs

import mmseg_ctx
from mmseg_ctx.checkpoints import load_model, load_segmentor, save_model
from mmseg_ctx.checkpoints.folder import CONFIG, WEIGHTS
from mmseg_ctx.datasets.scenes import CLASSES, PALETTE
from tests.small_models import FCN, HEAD, with_cac, write_model

CASCADE = [FCN, with_cac(dict(HEAD, type='OCRHead', ocr_channels=6))]
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(56, 40), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
IMAGE = np.random.default_rng(0).integers(256, size=(40, 56, 3), dtype=np.uint8)


@pytest.fixture
def trained(tmp_path):
    """A model and its config, as a training leaves them."""

    def trained(head):
        config, checkpoint = write_model(head, tmp_path)
        dataset = dict(type='ConcatDataset', datasets=[dict(pipeline=PIPELINE)])
        data = {'test_dataloader.dataset': dict(dataset, _delete_=True), 'train_cfg': dict(a=1)}
        return load_segmentor(config, checkpoint, dict(data, test_pipeline=PIPELINE))

    return trained


@pytest.mark.parametrize('head', ['ACNet', 'CAC', CASCADE], ids=['ACNet', 'CAC', 'cascade'])
def test_the_same_labels_without_data_and_without_a_pickle(head, trained, tmp_path):
    model = trained(head)
    save_model(model, tmp_path / 'new' / 'folder')
    files = [str(tmp_path / 'new/folder' / name) for name in ('config.py', 'model.safetensors')]
    assert sorted(map(str, (tmp_path / 'new/folder').iterdir())) == files
    with mock.patch.object(torch, 'load', side_effect=AssertionError('torch.load')):
        loaded, by_mmseg = load_model(tmp_path / 'new/folder'), init_model(*files, 'cpu')
        inferencer = MMSegInferencer(*files)
    assert 'train_cfg' not in loaded.cfg
    expected = inference_model(model, IMAGE).pred_sem_seg.data
    assert len(expected.unique()) > 1
    for same in (loaded, by_mmseg):
        torch.testing.assert_close(same.state_dict(), model.state_dict(), rtol=0, atol=0)
        assert inference_model(same, IMAGE).pred_sem_seg.data.equal(expected)
        assert same.dataset_meta == dict(classes=list(CLASSES), palette=list(map(list, PALETTE)))
    label = inferencer(IMAGE, show=False)['predictions']
    np.testing.assert_array_equal(label, expected[0])
    assert list(inferencer.model.dataset_meta['classes']) == list(CLASSES)


def test_a_model_with_a_config_and_classes_of_the_callers(trained, tmp_path):
    model = trained('DMNet')
    config = model.cfg
    meta = dict(classes=tuple('abcdefghijklmn'), palette=np.eye(14, 3, dtype='u1'))
    del model.cfg, model.dataset_meta
    with pytest.raises(ValueError, match=r'no config \(model\.cfg\)'):
        save_model(model, tmp_path / 'folder')
    with pytest.raises(ValueError, match='no names of classes'):
        save_model(model, tmp_path / 'folder', config)
    config.dump(tmp_path / 'mine.py')
    mmseg_ctx.save_model(model, tmp_path / 'folder', tmp_path / 'mine.py', meta)
    loaded = mmseg_ctx.load_model(tmp_path / 'folder').dataset_meta
    assert loaded == {'classes': list('abcdefghijklmn'), 'palette': meta['palette'].tolist()}
    with pytest.raises(FileExistsError, match=r'config\.py exists'):
        save_model(model, tmp_path / 'folder', config, meta)
    save_model(model, tmp_path / 'folder', config, meta, force=True)
    config = Config({key: config[key] for key in ('model',)})
    with pytest.raises(ValueError, match='test_pipeline'):
        save_model(model, tmp_path / 'other', config, meta)


def test_types_as_classes_or_with_a_scope(trained, tmp_path):
    model = trained('DMNet')
    kinds = LoadImageFromFile, 'mmseg.LoadAnnotations', PackSegInputs
    pipeline = [dict(type=kind) for kind in kinds]
    parts = {name: dict(model.cfg.model[name]) for name in ('backbone', 'decode_head')}
    for name, part in parts.items():
        part['type'] = type(getattr(model, name))
    config = dict(model=dict(model.cfg.model, type=type(model), **parts), test_pipeline=pipeline)
    save_model(model, tmp_path / 'folder', Config(config))
    loaded = load_model(tmp_path / 'folder')
    assert type(loaded.backbone) is type(model.backbone)
    expected = inference_model(model, IMAGE).pred_sem_seg.data
    assert inference_model(loaded, IMAGE).pred_sem_seg.data.equal(expected)
    inferencer = MMSegInferencer(*(str(tmp_path / 'folder' / name) for name in (CONFIG, WEIGHTS)))
    np.testing.assert_array_equal(inferencer(IMAGE, show=False)['predictions'], expected[0])


def test_what_is_no_model_folder(trained, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'none/config\.py'):
        load_model(tmp_path / 'none')
    save_model(trained('DMNet'), tmp_path / 'folder')
    (tmp_path / 'folder/model.safetensors').write_bytes(b'weights')
    with pytest.raises(ValueError, match=r'model\.safetensors is no file of safetensors'):
        load_model(tmp_path / 'folder')
    (tmp_path / 'folder/model.safetensors').unlink()
    with pytest.raises(FileNotFoundError, match=r'model\.safetensors'):
        load_model(tmp_path / 'folder')

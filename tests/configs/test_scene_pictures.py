"""Pictures of predictions on the context scenes, which are not files, by MMSegmentation's means."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import Config
from mmseg.apis import MMSegInferencer, inference_model, init_model
from PIL import Image

from mmseg_ctx.datasets.scenes import CLASSES, PALETTE, render_scene
from tests.configs.training import load_lightly, mim, runner
from tests.helpers import ROOT

CONFIG = ROOT / 'configs/fcn/fcn_r18-small_1xb16-600_context-scenes-128x128.py'
NAMES = [f'context_scene_1_00000{index}_32x48' for index in range(3)]
SMALL = {
    **load_lightly(),
    **{
        f'{loader}_dataloader.{option}': value
        for loader in ('val', 'test')
        for option, value in {
            'batch_size': 2,
            'dataset.num_images': 3,
            'dataset.image_size': [32, 48],
        }.items()
    },
}


@pytest.fixture
def config(folder):
    """Return the config with three small scenes, beside the checkpoint of an untrained model."""
    config = Config.fromfile(CONFIG)
    config.merge_from_dict(SMALL)
    config.work_dir = 'work_dir'
    weights = runner(config).model.state_dict()
    meta = dict(dataset_meta=dict(classes=CLASSES, palette=PALETTE))
    torch.save(dict(state_dict=weights, meta=meta), 'model.pth')
    return config


@pytest.mark.slow
def test_mim_shows_and_writes_every_prediction(config, folder):
    command = ['test', 'mmseg', CONFIG, '--gpus', '0', '--checkpoint', 'model.pth', '--tta']
    options = ['--work-dir', 'run', '--show-dir', 'shown', '--out', 'written']
    assert 'mIoU' in mim(*command, *options, **SMALL)
    pictures = sorted(folder.glob('shown/vis_data/vis_image/*.png'))
    shown = [path.name.rsplit('_', 1)[0] for path in pictures]
    assert shown == [f'test_{name}.png' for name in NAMES]
    assert sorted(path.stem for path in Path('written').iterdir()) == NAMES
    for index, path in enumerate(pictures):
        prediction = np.array(Image.open(f'written/{NAMES[index]}.png'))
        assert prediction.shape == (32, 48)
        assert set(np.unique(prediction)) <= set(range(len(CLASSES)))
        # Ground truth and prediction side by side.
        assert Image.open(path).size == (96, 32)


def test_a_scene_is_segmented_by_its_path(config, folder):
    image, _ = render_scene(1, 1, 32, 48)
    path = f'context-scenes://{NAMES[1]}.png'
    model = init_model(config, 'model.pth', device='cpu')
    result = inference_model(model, path)
    inferencer = MMSegInferencer(CONFIG.as_posix(), 'model.pth', device='cpu')
    inferencer(path, out_dir='segmented')
    assert Image.open(f'segmented/vis/{NAMES[1]}.png').size == (48, 32)
    expected = inference_model(model, image[..., ::-1].copy()).pred_sem_seg.data
    assert torch.equal(result.pred_sem_seg.data, expected)
    written = np.array(Image.open('segmented/pred/00000000_pred.png'))
    assert np.array_equal(written, expected[0].numpy())

"""MMSegmentation's inference on a context scene, which is no file."""

import numpy as np
import torch
from mmengine import Config
from mmseg.apis import MMSegInferencer, inference_model, init_model
from PIL import Image

from mmseg_ctx.datasets.scenes import CLASSES, PALETTE, render_scene
from tests.configs.training import runner
from tests.helpers import ROOT

CONFIG = ROOT / 'configs/fcn/fcn_r18-small_1xb16-600_context-scenes-128x128.py'


def test_a_scene_is_segmented_by_its_path(folder):
    config = Config.fromfile(CONFIG)
    config.work_dir = 'work_dir'
    meta = dict(dataset_meta=dict(classes=CLASSES, palette=PALETTE))
    torch.save(dict(state_dict=runner(config).model.state_dict(), meta=meta), 'model.pth')
    name = 'context_scene_1_000001_32x48'
    image, _ = render_scene(1, 1, 32, 48)
    path = f'context-scenes://{name}.png'
    model = init_model(config, 'model.pth', device='cpu')
    result = inference_model(model, path)
    inferencer = MMSegInferencer(CONFIG.as_posix(), 'model.pth', device='cpu')
    inferencer(path, out_dir='segmented')
    assert Image.open(f'segmented/vis/{name}.png').size == (48, 32)
    expected = inference_model(model, image[..., ::-1].copy()).pred_sem_seg.data
    assert torch.equal(result.pred_sem_seg.data, expected)
    written = np.array(Image.open('segmented/pred/00000000_pred.png'))
    assert np.array_equal(written, expected[0].numpy())

"""The segmentors in use: a user's own classes, copies, graphs, and MMSegmentation's programs."""

import copy
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.apis import MMSegInferencer, inference_model, init_model
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS

from mmseg_ctx.datasets.scenes import render_scene
from mmseg_ctx.segmentors import MemoryEfficientSegmentor
from tests.helpers import ROOT
from tests.segmentors.pairs import MODES, assert_same_labels, data, pair, photograph
from tests.small_models import model_config, write_model


def batch():
    return data([photograph(96, 128)], [(117, 150)])


def labels(model):
    with torch.no_grad():
        return model.test_step(batch())[0].pred_sem_seg.data


class Mirrored(EncoderDecoder):
    """A user's own segmentor, which decodes twice in its own way, and looks at what it decodes."""

    def encode_decode(self, inputs, batch_img_metas):
        super().encode_decode(inputs, batch_img_metas)
        features = self.extract_feat(inputs.flip(3))
        logits = self.decode_head.predict(features, batch_img_metas, self.test_cfg)
        assert logits.shape == (len(inputs), 14, *inputs.shape[2:])
        assert (logits.dtype, logits.device) == (inputs.dtype, inputs.device)
        return logits


class Sharpened(EncoderDecoder):
    """One with a step between logits and labels."""

    def postprocess_result(self, seg_logits, data_samples=None):
        return super().postprocess_result(seg_logits.roll(1, dims=1), data_samples)


class TestOfAUser:
    def models(self, cls):
        config = model_config('FCN')
        config.pop('type')
        stock, _ = pair()
        both = []
        for base in (cls, type('Ours', (MemoryEfficientSegmentor, cls), {})):
            both.append(base(**copy.deepcopy(config)).eval())
            both[-1].load_state_dict(stock.state_dict())
        return both

    def test_with_its_own_encoding(self, messages):
        stock, ours = self.models(Mirrored)
        assert_same_labels(stock, ours, batch())
        assert (labels(ours) != labels(pair()[1])).any()
        assert not messages

    def test_with_a_step_of_its_own_predicts_as_before(self, messages):
        stock, ours = self.models(Sharpened)
        assert torch.equal(labels(ours), labels(stock))
        assert 'Ours has a postprocess_result of its own' in messages[0]

    def test_of_the_page(self):
        page = (ROOT / 'docs/memory.md').read_text()
        exec(re.search(r'^```python\n# my_segmentor.py\n(.*?)^```', page, re.M | re.S)[1], {})
        result = MODELS.build(model_config('FCN') | dict(type='MySegmentor')).eval()
        assert result.test_step(batch())[0].keys() == ['pred_sem_seg']


@pytest.mark.parametrize('mode', MODES)
def test_compiled_prediction(mode):
    # As MMEngine compiles a model: its forward, whatever the mode.
    _, ours = pair(**MODES[mode])
    expected = labels(ours)
    graphs = []

    def backend(graph, example_inputs):
        graphs.append(graph.graph)
        return graph

    ours.forward = torch.compile(ours.forward, backend=backend)
    assert torch.equal(labels(ours), expected)
    # The network is compiled: the backbone's four convolutions and the head's four.
    called = [str(node.target) for graph in graphs for node in graph.nodes]
    assert sum('conv2d' in target for target in called) == 8


@pytest.mark.parametrize('strict', [False, True])
def test_exported_prediction(strict):
    """``torch.export`` gets the graph of the stock segmentor, without resizable logits."""
    _, ours = pair()
    inputs = ours.data_preprocessor(batch())['inputs']

    class Labels(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = ours

        def forward(self, images):
            return self.model.predict(images)[0].pred_sem_seg.data

    with torch.no_grad():
        exported = torch.export.export(Labels(), (inputs,), strict=strict).module()
        assert torch.equal(exported(inputs), Labels()(inputs))


def test_threads_predict_at_a_time():
    _, ours = pair()
    expected = labels(ours)
    with ThreadPoolExecutor(4) as executor:
        found = list(executor.map(lambda _: labels(ours), range(40)))
    assert all(torch.equal(each, expected) for each in found)


def test_a_thread_that_infers_while_another_predicts_gets_tensors():
    _, ours = pair()
    inputs, metas = batch()['inputs'][0][None], [dict(img_shape=(96, 128), ori_shape=(96, 128))]
    found, extract = [], ours.extract_feat

    def extract_feat(images):
        if threading.current_thread() is threading.main_thread():
            with ThreadPoolExecutor(1) as other:
                found.append(other.submit(ours.inference, inputs, metas).result())
        return extract(images)

    ours.extract_feat = extract_feat
    labels(ours)
    assert type(found[0]) is torch.Tensor


def test_a_teacher_inside_a_backbone_predicts_on_its_own():
    _, ours = pair()
    _, teacher = pair()
    expected, extract = labels(ours), ours.extract_feat

    def extract_feat(images):
        assert teacher.predict(images)[0].pred_sem_seg.shape == images.shape[2:]
        return extract(images)

    ours.extract_feat = extract_feat
    for _ in range(2):
        assert torch.equal(labels(ours), expected)


def test_mmsegmentations_programs(tmp_path):
    """MMSegmentation's functions, with a config and a checkpoint, on a scene that is no file."""
    path, checkpoint = write_model('CAC', tmp_path)
    ours = Config.fromfile(path)
    ours.model.type = 'MemoryEfficientEncoderDecoder'
    ours.visualizer = dict(type='SegLocalVisualizer')
    ours.test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]
    ours.test_dataloader.dataset.pipeline = ours.test_pipeline
    config = str(tmp_path / 'ours.py')
    ours.dump(config)
    name = 'context_scene_1_000001_60x90'
    model = init_model(config, str(checkpoint), device='cpu')
    result = inference_model(model, f'context-scenes://{name}.png')
    assert 'seg_logits' not in result
    label = result.pred_sem_seg.data[0].numpy()
    inferencer = MMSegInferencer(config, str(checkpoint), device='cpu')
    folders = dict(out_dir=str(tmp_path / 'out'), img_out_dir='v', pred_out_dir='p')
    found = inferencer(f'context-scenes://{name}.png', **folders)
    np.testing.assert_array_equal(found['predictions'], label)
    (written,) = (tmp_path / 'out/p').iterdir()
    np.testing.assert_array_equal(cv2.imread(str(written), 0), label)
    assert cv2.imread(str(tmp_path / f'out/v/{name}.png')).shape == (60, 90, 3)
    model.cfg.model.test_cfg = dict(mode='whole')
    stock = MODELS.build(model.cfg.model | dict(type='EncoderDecoder')).eval()
    stock.load_state_dict(model.state_dict())
    stock.cfg = model.cfg
    image, _ = render_scene(1, 1, 60, 90)
    expected = inference_model(stock, image[..., ::-1].copy()).pred_sem_seg.data[0].numpy()
    assert len(np.unique(expected)) > 1
    assert (label == expected).mean() >= 0.9999

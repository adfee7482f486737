"""Whole models in onnxruntime, also on sizes that neither the exporter nor its check has seen."""

import json
import sys

import onnx
import onnxruntime
import pytest
import torch
from mmseg.models.utils import resize

from mmseg_ctx.export import export_onnx
from mmseg_ctx.export import onnx as onnx_export
from tests.small_models import build_segmentor


def run(path, image):
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    (output,) = session.run(None, {'image': image.numpy()})
    return torch.from_numpy(output)


def expected_logits(segmentor, image):
    with torch.no_grad():
        return segmentor.encode_decode(image, [dict(img_shape=tuple(image.shape[2:]))] * len(image))


def test_one_size(tmp_path):
    segmentor = build_segmentor('DMNet')
    path = tmp_path / 'model.onnx'
    (agreement,) = export_onnx(segmentor, path, (40, 64), opset=19)
    assert agreement.shape == (1, 3, 40, 64)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [entry.version for entry in model.opset_import if entry.domain == ''] == [19]
    metadata = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert metadata['classes'] == list(segmentor.dataset_meta['classes'])
    assert metadata['palette'] == [list(colour) for colour in segmentor.dataset_meta['palette']]
    # Dynamic filters and their pooling, without a loop over images.
    operators = {node.op_type for node in model.graph.node}
    assert not operators & {'Scan', 'Loop', 'GatherND'}
    image = torch.randn(1, 3, 40, 64)
    torch.testing.assert_close(
        run(path, image), expected_logits(segmentor, image), rtol=0, atol=1e-3
    )


@pytest.mark.parametrize('dynamic', [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_graph_that_ends_in_labels(dynamic, tmp_path):
    segmentor = build_segmentor('CAC')
    path = tmp_path / 'model.onnx'
    agreements = export_onnx(segmentor, path, (40, 64), dynamic, labels=True)
    assert all(agreement.same_labels == 1 for agreement in agreements)
    assert 'logits' not in str(agreements[0])
    graph = onnx.load(path).graph
    assert graph.output[0].name == 'labels'
    assert graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.INT64
    # Two nodes that a runtime can fuse, with nothing after them.
    assert [node.op_type for node in graph.node][-2:] == ['Resize', 'ArgMax']
    image = torch.randn(2 if dynamic else 1, 3, *((57, 49) if dynamic else (40, 64)))
    expected = expected_logits(segmentor, image).argmax(dim=1)
    assert len(expected.unique()) > 1
    assert run(path, image).equal(expected)


def test_cac_where_a_class_has_no_probability(tmp_path):
    segmentor = build_segmentor('CAC')
    segmentor.decode_head.conv_seg.bias.data[3] = -1e4
    (agreement,) = export_onnx(segmentor, tmp_path / 'model.onnx', (40, 64))
    assert agreement.same_labels == 1


def test_labels_of_a_model_with_one_logit(tmp_path):
    loss = dict(type='CrossEntropyLoss', use_sigmoid=True)
    two = dict(num_classes=2, out_channels=1, threshold=0.4, loss_decode=loss)
    segmentor = build_segmentor('DMNet', **two)
    export_onnx(segmentor, tmp_path / 'model.onnx', (40, 64), labels=True)
    image = torch.randn(1, 3, 40, 64)
    (sample,) = segmentor.predict(image)
    expected = sample.pred_sem_seg.data
    assert expected.float().mean() not in (0, 1)
    assert run(tmp_path / 'model.onnx', image).equal(expected)


@pytest.mark.parametrize('channels', [1, 3, 4])
def test_normalization_in_the_graph(channels, tmp_path):
    """The data preprocessor swaps three channels alone, whatever its ``bgr_to_rgb``."""
    segmentor = build_segmentor('CTNet', {} if channels == 3 else dict(mean=[120], std=[50]))
    segmentor.backbone.stem = torch.nn.Conv2d(channels, 4, 5, stride=4, padding=2)
    path = tmp_path / 'model.onnx'
    (agreement,) = export_onnx(segmentor, path, (32, 40), normalize=True)
    assert agreement.shape == (1, channels, 32, 40)
    image = torch.randint(0, 256, (1, channels, 32, 40))
    batch = segmentor.data_preprocessor(dict(inputs=[image[0]], data_samples=None))
    expected = expected_logits(segmentor, batch['inputs'])
    torch.testing.assert_close(run(path, image.float()), expected, rtol=0, atol=1e-3)


def test_a_model_of_sliding_windows_is_exported_as_a_whole(tmp_path):
    segmentor = build_segmentor('CTNet')
    segmentor.test_cfg.update(mode='slide', crop_size=(32, 32), stride=(16, 16))
    with pytest.warns(UserWarning, match='the graph predicts whole images') as warned:
        export_onnx(segmentor, tmp_path / 'model.onnx', (32, 48))
    assert warned[0].filename == __file__


def test_another_precision_is_named(tmp_path):
    with pytest.raises(ValueError, match=r'precision torch.float32, got torch.float16'):
        export_onnx(build_segmentor('CTNet').half(), tmp_path / 'model.onnx', (32, 40))


def test_without_its_packages_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxscript', None)
    with pytest.raises(ImportError, match=r"onnxscript .*pip install 'mmseg-ctx\[export\]'"):
        export_onnx(build_segmentor('CTNet'), tmp_path / 'model.onnx', (32, 40))


def test_leaves_the_model_as_it_was(tmp_path):
    segmentor = build_segmentor('CAC').train()
    attributes = [dict(vars(module)) for module in segmentor.modules()]
    weights = {name: tensor.clone() for name, tensor in segmentor.state_dict().items()}
    defaults = resize.__defaults__
    export_onnx(segmentor, tmp_path / 'model.onnx', (32, 40))
    assert [vars(module) for module in segmentor.modules()] == attributes
    torch.testing.assert_close(segmentor.state_dict(), weights, rtol=0, atol=0)
    assert resize.__defaults__ == defaults


def test_no_file_where_the_logits_differ(tmp_path, monkeypatch):
    write = onnx_export._write

    def write_then_change(model, *args):
        write(model, *args)
        with torch.no_grad():
            model.segmentor.decode_head.conv_seg.bias[0] += 0.01

    monkeypatch.setattr(onnx_export, '_write', write_then_change)
    with pytest.raises(ValueError, match=r'do not agree.*1x3x32x40: .* 1.0e-02') as error:
        export_onnx(build_segmentor('CTNet'), tmp_path / 'model.onnx', (32, 40))
    assert '\n' not in str(error.value)
    assert not list(tmp_path.iterdir())

"""Swin's exportable parts beside MMSegmentation's own."""

import copy

import pytest
import torch
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS

from mmseg_ctx.export import export_onnx
from mmseg_ctx.export.onnx import _exportable
from tests.export.test_onnx import expected_logits, run
from tests.models import FCN, model_config

BACKBONE = dict(
    type='SwinTransformer',
    embed_dims=8,
    patch_size=4,
    window_size=3,
    mlp_ratio=2,
    depths=(2, 2),
    num_heads=(1, 2),
    strides=(4, 2),
    out_indices=(0, 1),
)


@pytest.fixture
def segmentor():
    head = dict(type='ContextAwareClassifierHead', head=dict(FCN, in_index=1))
    config = dict(copy.deepcopy(model_config('FCN')), backbone=BACKBONE, decode_head=head)
    with DefaultScope.overwrite_default_scope('mmseg'):
        segmentor = MODELS.build(config).eval()
    with torch.no_grad():
        for tensor in segmentor.parameters():
            tensor.normal_(std=0.3)
    return segmentor


@torch.no_grad()
@pytest.mark.parametrize('size', [(64, 80), (41, 90), (8, 8)])
def test_equals_mmsegmentation(segmentor, size):
    image = torch.randn(2, 3, *size)
    expected = segmentor.backbone(image)
    actual = _exportable(segmentor).backbone(image)
    assert all(each.std() > 0.05 for each in expected)
    torch.testing.assert_close(actual, expected)


def test_one_file_for_any_size(segmentor, tmp_path):
    path = tmp_path / 'model.onnx'
    agreements = export_onnx(segmentor, path, (64, 80), dynamic=True)
    assert all(agreement.holds for agreement in agreements)
    image = torch.randn(3, 3, 57, 49)
    torch.testing.assert_close(
        run(path, image), expected_logits(segmentor, image), rtol=0, atol=1e-3
    )

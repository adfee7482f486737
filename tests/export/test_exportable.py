"""Modules that can be exported beside PyTorch's and MMSegmentation's own."""

import pytest
import torch
from mmseg.models.utils import Upsample
from mmseg.models.utils.embed import AdaptivePadding
from mmseg.registry import MODELS
from torch import nn

from mmseg_ctx.export import export_onnx
from mmseg_ctx.export.exportable import exportable
from tests.export.test_onnx import expected_logits, run
from tests.small_models import FCN, model_config, randomize, with_cac

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
def segmentor(mmseg_scope):
    config = model_config(with_cac(dict(FCN, in_index=1)))
    return randomize(MODELS.build(dict(config, backbone=BACKBONE)).eval())


@torch.no_grad()
@pytest.mark.parametrize('size', [(64, 80), (41, 90), (8, 8)])
def test_equals_mmsegmentation(segmentor, size):
    image = torch.randn(2, 3, *size)
    expected = segmentor.backbone(image)
    actual = exportable(segmentor).backbone(image)
    assert all(each.std() > 0.05 for each in expected)
    torch.testing.assert_close(actual, expected)


@pytest.mark.slow
def test_one_file_for_any_size(segmentor, tmp_path):
    path = tmp_path / 'model.onnx'
    agreements = export_onnx(segmentor, path, (64, 80), dynamic=True)
    assert all(agreement.holds for agreement in agreements)
    image = torch.randn(3, 3, 57, 49)
    torch.testing.assert_close(
        run(path, image), expected_logits(segmentor, image), rtol=0, atol=1e-3
    )


@pytest.mark.parametrize(
    'module',
    [
        nn.AdaptiveAvgPool2d((3, 5)),
        nn.AdaptiveAvgPool2d(1),
        nn.Unfold(2, stride=2),
        nn.Unfold((2, 2), stride=(2, 2)),
        nn.Unfold(3, stride=2, padding=1),
        nn.Unfold(2, stride=2, dilation=3),
        nn.Unfold((1, 2), stride=(1, 2)),
        Upsample(scale_factor=2, mode='bilinear', align_corners=False),
        Upsample(scale_factor=1.5, mode='nearest'),
        Upsample(size=(7, 9), mode='bilinear', align_corners=True),
        AdaptivePadding(kernel_size=4, stride=4),
        AdaptivePadding(kernel_size=4, stride=4, padding='same'),
        AdaptivePadding(kernel_size=7, stride=4),
    ],
    ids=repr,
)
def test_each_module_equals_its_own(module):
    x = torch.randn(2, 3, 12, 18)
    model = nn.Sequential(module)
    (replaced,) = exportable(model)
    assert 'forward' in vars(replaced)
    torch.testing.assert_close(replaced(x), module(x))

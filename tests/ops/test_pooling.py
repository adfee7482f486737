import pytest
import torch
import torch.nn.functional as F

from mmseg_ctx.ops import adaptive_avg_pool2d

SIZES = [(5, 5), (6, 9), (7, 14), (3, 20), (1, 1), (2, 31), (12, 8)]


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('output_size', [1, 2, 3, 5, 7, (2, 6), (None, 3), (4, None)])
def test_form_for_export_equals_torch(output_size, size, monkeypatch):
    monkeypatch.setattr(torch.onnx, 'is_in_onnx_export', lambda: True)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = F.adaptive_avg_pool2d(x, output_size)
    actual = adaptive_avg_pool2d(x, output_size)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


def test_is_torchs_own_operation_elsewhere():
    x = torch.randn(2, 3, 7, 9, requires_grad=True)
    assert 'AdaptiveAvgPool2D' in type(adaptive_avg_pool2d(x, 3).grad_fn).__name__

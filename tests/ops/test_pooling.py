from unittest import mock

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from mmseg_ctx.ops import adaptive_avg_pool2d

CELLS = st.integers(1, 8) | st.none()


@given(
    size=st.tuples(st.integers(1, 31), st.integers(1, 31)),
    output_size=st.integers(1, 8) | st.tuples(CELLS, CELLS),
)
def test_form_for_export_equals_torch(size, output_size):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = F.adaptive_avg_pool2d(x, output_size)
    with mock.patch.object(torch.onnx, 'is_in_onnx_export', return_value=True):
        actual = adaptive_avg_pool2d(x, output_size)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


def test_is_torchs_own_operation_elsewhere():
    x = torch.randn(2, 3, 7, 9, requires_grad=True)
    assert 'AdaptiveAvgPool2D' in type(adaptive_avg_pool2d(x, 3).grad_fn).__name__

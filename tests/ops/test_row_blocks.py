import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmseg_ctx.ops import class_prototypes, cosine_logits, row_blocks


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(row_blocks, 'BLOCK', 8 * 5 * 2)  # two rows of the features below


def make(batch=1, dtype=torch.float64, memory_format=torch.contiguous_format):
    features = torch.randn(batch, 8, 7, 5, dtype=dtype).to(memory_format=memory_format)
    return features, torch.rand(batch, 4, 7, 5, dtype=dtype), torch.randn(batch, 4, 8, dtype=dtype)


@torch.no_grad()
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_equal_sums_over_all_pixels(small_blocks, memory_format):
    features, membership, classifier = make(memory_format=memory_format)
    assert row_blocks.fits_row_blocks(features)
    sums = row_blocks.class_sums(features, membership)
    torch.testing.assert_close(sums, torch.einsum('bdhw,bnhw->bnd', features, membership))
    products, norms = row_blocks.pixel_products(features, classifier[0])
    torch.testing.assert_close(products, torch.einsum('bdhw,bnd->bnhw', features, classifier))
    torch.testing.assert_close(norms, features.norm(dim=1, keepdim=True))


@torch.no_grad()
def test_one_image_has_the_results_it_has_in_a_batch(small_blocks):
    features, membership, classifier = make(batch=2)
    batch = class_prototypes(features, membership), cosine_logits(features, classifier, 15.0)
    one = (
        class_prototypes(features[1:], membership[1:]),
        cosine_logits(features[1:], classifier[1:], 15.0),
    )
    for together, alone in zip(batch, one, strict=True):
        torch.testing.assert_close(together[1:], alone)


def test_serves_only_one_image_without_gradients():
    features, *_ = make()
    assert not row_blocks.fits_row_blocks(features)
    with torch.no_grad():
        assert not row_blocks.fits_row_blocks(features.to('meta'))
        assert not row_blocks.fits_row_blocks(make(batch=2)[0])
        assert not row_blocks.fits_row_blocks(features[:, :, :0])


class ConvolutionSizes(TorchDispatchMode):
    """Notes the largest input of a convolution."""

    def __init__(self):
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if 'convolution' in str(func):
            self.largest = max(self.largest, max(arg.numel() for arg in args[:2]))
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def test_no_convolution_sees_more_than_a_block():
    features, membership, classifier = make()
    features, membership = features.repeat(1, 16, 40, 40), membership.repeat(1, 1, 40, 40)
    with ConvolutionSizes() as sizes:
        row_blocks.class_sums(features, membership)
        row_blocks.pixel_products(features, classifier[0].repeat(1, 16))
    assert 0 < sizes.largest <= row_blocks.BLOCK < features.numel()

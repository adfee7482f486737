import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from mmseg_ctx.ops import Interpolation

VALUES = torch.randn(1, 1, 37, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def dense(interpolation, length=None):
    """Return the matrix ``[target, source]``, put together from tiles of some length."""
    targets = len(interpolation.first)
    matrix = interpolation.weights.new_zeros(targets, interpolation.size)
    for start in range(0, targets, length or targets):
        tile, sources = interpolation.tile(start, length or targets)
        matrix[start : start + len(tile), sources] = tile
    return matrix


def resized(values, length, align_corners):
    return F.interpolate(values, length, mode='linear', align_corners=align_corners)


@settings(deadline=None)
@given(length=st.integers(1, 300), align_corners=st.booleans(), tile=st.integers(1, 500))
def test_resizing_is_that_of_torch(length, align_corners, tile):
    values = VALUES
    side = Interpolation.identity(37, values).resize(length, align_corners)
    expected = resized(values, length, align_corners)
    torch.testing.assert_close(dense(side, tile) @ values[0, 0], expected[0, 0])


@settings(deadline=None)
@given(align_corners=st.booleans(), tile=st.integers(1, 100))
def test_chain_of_steps(align_corners, tile):
    side = (
        Interpolation.identity(37, VALUES)
        .resize(150, align_corners)
        .place(11, 200)
        .scale(torch.linspace(1, 2, 200, dtype=torch.float64))
        .crop(4, 190)
        .flip()
        .resize(91, align_corners)
    )
    values = F.pad(resized(VALUES, 150, align_corners), (11, 39))
    values = (values * torch.linspace(1, 2, 200, dtype=torch.float64))[..., 4:190].flip(2)
    expected = resized(values, 91, align_corners)
    torch.testing.assert_close(dense(side, tile) @ VALUES[0, 0], expected[0, 0])


def test_a_tile_reads_few_sources():
    side = Interpolation.identity(64, VALUES).resize(512, align_corners=False)
    for start in range(0, 512, 64):
        matrix, sources = side.tile(start, 64)
        assert matrix.shape == (64, sources.stop - sources.start)
        assert sources.stop - sources.start <= 10


def test_a_tile_outside_of_what_is_placed_reads_nothing():
    side = Interpolation.identity(8, VALUES).place(10, 30)
    for start in (0, 20):
        matrix, sources = side.tile(start, 10)
        assert matrix.shape == (10, 0)
        assert sources.start == sources.stop


def test_reads_no_value_of_a_tensor():
    # A fake tensor has no value to read: what would wait for a device raises.
    with FakeTensorMode():
        side = Interpolation.identity(37, torch.zeros(()))
        matrix, sources = side.resize(100, False).crop(2, 90).flip().resize(61, True).tile(3, 10)
    assert matrix.shape == (10, sources.stop - sources.start)


@pytest.mark.parametrize('numbers', [(5,), (5, 8, 3), (4, 4, 4, 4)])
def test_join_adds_maps_of_windows(numbers):
    windows = [torch.randn(number, dtype=torch.float64) for number in numbers]
    sides = [
        Interpolation.identity(number, VALUES).resize(20, align_corners=False).place(start, 40)
        for number, start in zip(numbers, range(0, 20, 6), strict=False)
    ]
    expected = sum(dense(side) @ window for side, window in zip(sides, windows, strict=True))
    joined = Interpolation.join(sides)
    torch.testing.assert_close(dense(joined, 7) @ torch.cat(windows), expected)
    values = torch.cat(windows)[joined.index] * joined.weights
    torch.testing.assert_close(values.sum(1), expected)


def test_a_chain_of_real_tensors_is_made_once_and_never_of_fake_ones():
    first, second = (Interpolation.identity(9, torch.zeros(())).resize(31, True) for _ in '12')
    assert first.weights is second.weights
    with FakeTensorMode():
        fake = Interpolation.identity(9, torch.zeros(())).resize(31, True)
    assert type(fake.weights) is not torch.Tensor
    assert type(Interpolation.identity(9, torch.zeros(())).weights) is torch.Tensor

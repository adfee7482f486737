"""The drawing of the scenes: the recorded ones, and scenes of any size."""

import hashlib

import numpy as np
import pytest

from mmseg_ctx.datasets import scenes


def digest(arrays):
    return hashlib.sha256(b''.join(array.tobytes() for array in arrays)).hexdigest()[:16]


@pytest.mark.parametrize(
    ('size', 'image_digest', 'label_digest'),
    [
        ((128, 128), '6a9e480f30ba10ef', '95a308de7e7004b8'),
        ((97, 160), '6572923d065aec90', 'b50a51cd423c4c1f'),
    ],
)
def test_every_platform_draws_the_recorded_scenes(size, image_digest, label_digest):
    scenes_ = (scenes.render_scene(3, index, *size) for index in range(16))
    images, labels = zip(*scenes_, strict=True)
    assert digest(labels) == label_digest
    assert digest(images) == image_digest


@pytest.mark.parametrize('size', [(32, 32), (32, 200), (200, 32), (97, 131)])
def test_any_size_holds_a_whole_scene(size):
    for index in range(20):
        image, label = scenes.render_scene(0, index, *size)
        assert image.shape == (*size, 3)
        assert image.dtype == label.dtype == np.uint8
        assert label.shape == size
        found = set(np.unique(label)) - {scenes.IGNORED}
        assert found <= set(range(len(scenes.CLASSES)))
        assert {scenes.KITE, scenes.DARK_CRATE, scenes.LIGHT_CRATE} <= found
        assert len(found & set(scenes.GROUND_TYPES)) == 1

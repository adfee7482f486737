"""The drawing of the scenes: what makes context necessary, measured over many scenes."""

import hashlib
from functools import cache

import numpy as np
import pytest

from mmseg_ctx.datasets import scenes

SIDE = 128
COUNT = 500
PATCH = 8
FAR = 40
"""Pixels between a patch of ground and the kite, at least."""


@cache
def many_scenes():
    return [scenes.render_scene(7, index, SIDE, SIDE) for index in range(COUNT)]


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


def test_the_cue_is_whole_and_tells_the_type():
    """Its colour, of the pixels labelled kite alone, is enough to tell the four types apart."""
    centres = np.array(scenes.KITE_COLOURS)
    right = 0
    for image, label in many_scenes():
        colour = image[label == scenes.KITE].mean(0) / 255
        cosines = centres @ colour / np.linalg.norm(centres, axis=1)
        kind = scenes.GROUND_TYPES.index(np.intersect1d(label, scenes.GROUND_TYPES).item())
        right += cosines.argmax() == kind
    assert right >= 0.98 * COUNT


def far_ground_patches():
    """Mean and spread of colour of one patch of ground in each scene, far from the kite."""
    features, types = [], []
    for image, label in many_scenes():
        rows, columns = np.nonzero(label == scenes.KITE)
        ground = np.intersect1d(label, scenes.GROUND_TYPES).item()
        for top in range(SIDE - PATCH, SIDE // 2, -PATCH):
            lefts = [
                left
                for left in range(0, SIDE, PATCH)
                if (label[top : top + PATCH, left : left + PATCH] == ground).all()
                and np.hypot(top - rows, left + PATCH / 2 - columns).min() > FAR
            ]
            if lefts:
                left = lefts[len(features) % len(lefts)]
                patch = image[top : top + PATCH, left : left + PATCH].reshape(-1, 3) / 255
                differences = abs(np.diff(patch, axis=0)).mean(0)
                features.append(np.concatenate([patch.mean(0), patch.std(0), differences]))
                types.append(ground)
                break
    return np.array(features), np.array(types)


def accuracy_of_a_classifier(features, types):
    """Of quadratic least squares, trained on one half of the patches and tested on the other."""
    centred = (features - features.mean(0)) / features.std(0)
    upper = np.triu_indices(centred.shape[1])
    squares = (centred[:, :, None] * centred[:, None, :])[:, upper[0], upper[1]]
    inputs = np.concatenate([np.ones((len(centred), 1)), centred, squares], 1)
    targets = types[:, None] == np.array(scenes.GROUND_TYPES)
    half = len(inputs) // 2
    weights = np.linalg.lstsq(inputs[:half], targets[:half].astype(float), rcond=None)[0]
    guesses = np.array(scenes.GROUND_TYPES)[(inputs[half:] @ weights).argmax(1)]
    return (guesses == types[half:]).mean(), len(types) - half


def test_ground_far_from_the_cue_looks_the_same_in_all_types():
    features, types = far_ground_patches()
    assert len(features) > 0.9 * COUNT
    accuracy, count = accuracy_of_a_classifier(features, types)
    assert accuracy < 0.25 + 4 * (0.25 * 0.75 / count) ** 0.5  # four deviations of guessing

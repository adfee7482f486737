"""The pictures of the page, pixel by pixel."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from mmseg_ctx.visualization.explore.pictures import (
    cover_image,
    data_url,
    legend,
    magnification,
    show_place,
)


@pytest.fixture(scope='module')
def scene(make_explorer):
    return make_explorer('ACNet').inspect_test_image(0).scene


def test_covers(scene):
    palette = np.vstack([scene.palette, np.full((242, 3), 255)])
    image = scene.image.astype(float)
    for cover, label in (('prediction', scene.prediction), ('ground truth', scene.label)):
        for opacity in (0, 0.25, 1):
            mixed = np.floor((1 - opacity) * image + opacity * palette[label] + 0.5)
            expected = np.where((label == 255)[..., None], image, mixed)
            np.testing.assert_array_equal(cover_image(scene, cover, opacity), expected)
    wrong = (scene.prediction != scene.label) & (scene.label != 255)
    assert 0 < wrong.sum() < wrong.size
    picture = cover_image(scene, 'errors', 1)
    np.testing.assert_array_equal((picture == (215, 48, 39)).all(axis=2), wrong)
    np.testing.assert_array_equal(picture[~wrong], scene.image[~wrong])
    np.testing.assert_array_equal(cover_image(scene, 'nothing', 1), scene.image)


@pytest.mark.parametrize(('row', 'column'), [(0, 0), (39, 63), (20, 30)])
def test_the_marked_pixel_stays_to_be_seen(row, column, scene):
    factor = magnification(scene)
    assert factor == 8
    image = cover_image(scene, 'nothing', 0)
    picture = show_place(image, factor, row, column)
    assert picture.shape == (320, 512, 3)
    pixel = picture[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
    assert (pixel == image[row, column]).all()
    large = image.repeat(8, axis=0).repeat(8, axis=1)
    changed = (picture != large).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert changed.any()
    # The cross has its middle at the pixel's.
    for places, place in ((rows, row), (columns, column)):
        assert abs(np.abs(places - (8 * place + 4))).max() <= 13


def test_a_picture_is_its_own_address(scene):
    kind, content = data_url(scene.image.copy()).split(',')
    assert kind == 'data:image/png;base64'
    picture = np.array(Image.open(io.BytesIO(base64.b64decode(content))))
    np.testing.assert_array_equal(picture, scene.image)


def test_the_legend_escapes_the_names_of_classes(scene):
    names = ('<script>alert(1)</script>', *scene.classes[1:])
    html = legend(scene._replace(classes=names, prediction=np.zeros((40, 64), int)))
    assert '<script>' not in html
    assert '&lt;script&gt;' in html
    red, green, blue = scene.palette[0]
    assert f'background:rgb({red},{green},{blue})' in html


def test_the_legend_gives_ignored_pixels_no_colour(scene):
    assert (scene.label == 255).any()
    assert '<span class="patch" style="background:transparent"></span>ignored' in legend(scene)

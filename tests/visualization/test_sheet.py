"""The sheet of pictures: what is drawn where."""

import numpy as np

from mmseg_ctx.datasets import scenes
from mmseg_ctx.visualization.labels import colour_label
from mmseg_ctx.visualization.sheet import draw_sheet

CLASSES = ('sky', 'road', 'tree')
PALETTE = [[10, 20, 30], [40, 50, 60], [70, 80, 90]]


def test_labels_have_their_classes_colours():
    label = np.array([[0, 2], [1, 255]])
    expected = [[[10, 20, 30], [70, 80, 90]], [[40, 50, 60], [255, 255, 255]]]
    assert colour_label(label, PALETTE).tolist() == expected


def test_each_picture_has_its_place():
    random = np.random.default_rng(0)
    rows = [
        [random.integers(0, 256, (4, 5, 3), np.uint8), *random.choice([0, 2, 255], (2, 4, 5))]
        for _ in range(3)
    ]
    figure = draw_sheet(rows, ['image', 'ground truth', 'FCN'], CLASSES, PALETTE)
    assert [axes.get_title() for axes in figure.axes[:3]] == ['image', 'ground truth', 'FCN']
    pictures = [axes.images[0].get_array() for axes in figure.axes]
    expected = [
        picture
        for image, *labels in rows
        for picture in (image, *(colour_label(label, PALETTE) for label in labels))
    ]
    for picture, wanted in zip(pictures, expected, strict=True):
        assert np.array_equal(picture, wanted)


def test_the_legend_names_the_classes_that_are_shown():
    image = np.zeros((2, 2, 3), np.uint8)
    rows = [[image, np.array([[2, 255], [2, 2]]), np.array([[2, 0], [2, 2]])]]
    (legend,) = draw_sheet(rows, ['image', 'truth', 'FCN'], CLASSES, PALETTE).legends
    assert [text.get_text() for text in legend.get_texts()] == ['sky', 'tree', 'ignored']
    colours = [
        np.round(np.multiply(patch.get_facecolor()[:3], 255)) for patch in legend.get_patches()
    ]
    assert np.array_equal(colours, [PALETTE[0], PALETTE[2], [255, 255, 255]])


def test_the_whole_legend_lies_on_the_sheet(tmp_path):
    """The names of the longest classes do not run out of a narrow sheet."""
    label = np.arange(16).reshape(4, 4)
    label[3, 2:] = 255
    for models in (1, 2, 3):
        row = [np.zeros((4, 4, 3), np.uint8), *[label] * (models + 1)]
        titles = ['image', 'ground truth', *'abc'[:models]]
        figure = draw_sheet([row, row], titles, scenes.CLASSES, scenes.PALETTE)
        figure.savefig(tmp_path / 'sheet.png')
        box = figure.legends[0].get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y0 >= 0

"""The sizes of what stands beside a picture, and the text below bars."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure

from mmseg_ctx.visualization.context import to_picture
from mmseg_ctx.visualization.panels import add_colour_bar, show_bars, show_map


@pytest.mark.parametrize('shape', [(40, 64), (64, 64), (200, 30)])
def test_a_colour_bar_is_no_sliver(shape):
    figure = Figure(figsize=(6, 3), layout='constrained')
    for axes in figure.subplots(1, 3):
        add_colour_bar(show_map(axes, np.random.default_rng(0).random(shape), 'map'))
    to_picture(figure)
    for axes in figure.axes:
        (bar,) = axes.child_axes
        picture, bar = axes.get_window_extent(), bar.get_window_extent()
        assert bar.width >= 0.059 * max(picture.width, picture.height)
        assert bar.x0 > picture.x1
        assert bar.x1 < figure.bbox.width


@pytest.mark.parametrize('largest', [0.15, 0.0337, 0.012, 0.00671])
def test_numbers_below_bars_stand_apart(largest):
    figure = Figure(figsize=(4, 4.6), layout='constrained')
    axes = figure.subplots()
    names = [f'chest of drawers {index}' for index in range(12)]
    show_bars(axes, names, np.linspace(largest, largest / 2, 12), ['red'] * 12, 'bars', 'unit')
    to_picture(figure)
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in axes.get_xticklabels()]
    assert len(boxes) >= 3
    for left, right in pairwise(boxes):
        assert right.x0 - left.x1 > 2 * left.height

"""A sheet of pictures: image, ground truth and predictions side by side, one row a scene."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

TILE = 1.9
"""Inches of a picture's side."""
IGNORED_COLOUR = (255, 255, 255)


def colour_label(label, palette):
    """Paint a label map in its classes' colours, white where it has no class.

    Args:
        label (np.ndarray): Integers ``[H, W]``.
        palette (Sequence[Sequence[int]]): RGB in 0..255 of each class.

    Returns:
        np.ndarray: uint8 ``[H, W, 3]``.
    """
    colours = np.full((256, 3), IGNORED_COLOUR, np.uint8)
    colours[: len(palette)] = palette
    return colours[label]


def draw_sheet(rows, titles, classes, palette):
    """Draw a sheet of pictures over a legend of the classes.

    Args:
        rows (Sequence[Sequence[np.ndarray]]): For each row the RGB image, uint8 ``[H, W, 3]``, then
            the label maps, integers ``[H, W]``.
        titles (Sequence[str]): One title a column.
        classes (Sequence[str]): Names for the legend.
        palette (Sequence[Sequence[int]]): RGB in 0..255 of each class.

    Returns:
        matplotlib.figure.Figure: The sheet, to be saved with ``figure.savefig``.
    """
    legend_rows = -(-(len(classes) + 1) // legend_columns(titles))
    size = (TILE * len(titles), TILE * len(rows) + 0.6 + 0.25 * legend_rows)
    figure = Figure(figsize=size, layout='constrained')
    grid = figure.subplots(len(rows), len(titles), squeeze=False)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=10)
    for line, (image, *labels) in zip(grid, rows, strict=True):
        pictures = [image, *(colour_label(label, palette) for label in labels)]
        for axes, picture in zip(line, pictures, strict=True):
            axes.imshow(picture, interpolation='nearest')
            axes.set_axis_off()
    named = zip([*classes, 'ignored'], [*palette, IGNORED_COLOUR], strict=True)
    patches = [
        Patch(facecolor=np.divide(colour, 255), edgecolor='grey', linewidth=0.5, label=name)
        for name, colour in named
    ]
    figure.legend(
        handles=patches,
        loc='outside lower center',
        ncols=legend_columns(titles),
        fontsize=9,
        frameon=False,
    )
    return figure


def legend_columns(titles):
    """Names beside each other in the legend: two fit under a picture."""
    return 2 * len(titles)

"""A sheet of pictures: image, ground truth and predictions side by side, one row a scene."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

TILE = 1.9
"""Inches of a picture's side."""
IGNORED = 255
"""What label maps have where there is no class."""
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
    """Draw a sheet of pictures over a legend of the classes that they show.

    Args:
        rows (Sequence[Sequence[np.ndarray]]): For each row the RGB image, uint8 ``[H, W, 3]``, then
            the label maps, integers ``[H, W]`` in 0..255.
        titles (Sequence[str]): One title a column.
        classes (Sequence[str]): Name of each class.
        palette (Sequence[Sequence[int]]): RGB in 0..255 of each class.

    Returns:
        matplotlib.figure.Figure: The sheet, to be saved with ``figure.savefig``.
    """
    shown = np.unique(np.concatenate([np.ravel(label) for _, *labels in rows for label in labels]))
    columns = 3 * len(titles) // 2
    legend_height = 0.25 * -(-len(shown) // columns)
    # A row of wide images is lower.
    height = TILE * sum(image.shape[0] / image.shape[1] for image, *_ in rows)
    size = (TILE * len(titles), height + 0.6 + legend_height)
    figure = Figure(figsize=size, layout='constrained')
    grid = figure.subplots(len(rows), len(titles), squeeze=False)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=10)
    for line, (image, *labels) in zip(grid, rows, strict=True):
        pictures = [image, *(colour_label(label, palette) for label in labels)]
        for axes, picture in zip(line, pictures, strict=True):
            axes.imshow(picture, interpolation='nearest')
            axes.set_axis_off()
    handles = [legend_entry(index, classes, palette) for index in shown]
    place = 'outside lower center'
    figure.legend(handles=handles, loc=place, ncols=columns, fontsize=9, frameon=False)
    return figure


def legend_entry(index, classes, palette):
    """A patch in the colour of one class, or of the pixels without one, and its name."""
    name = classes[index] if index < len(classes) else 'ignored'
    colour = palette[index] if index < len(palette) else IGNORED_COLOUR
    return Patch(facecolor=np.divide(colour, 255), edgecolor='grey', linewidth=0.5, label=name)

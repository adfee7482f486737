"""The panels of a figure, and their layout: each panel draws one picture into Matplotlib axes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FormatStrFormatter, MaxNLocator
from torch import Tensor

from mmseg_ctx.ops.labels import IGNORED
from mmseg_ctx.visualization.prediction import Prediction

SMALL = 8
"""Font size in points on colour bars and axes. Titles are one point larger."""
NEUTRAL = '#9aa7b5'
"""Colour of bars that do not stand for a class."""
IGNORED_COLOUR = (255, 255, 255)
LEGEND_COLUMNS = 7


class PixelAnswer(NamedTuple):
    """What a method computed at one pixel: a sentence, a table and panels."""

    sentence: str  # the main result
    columns: Sequence  # the names of the table's columns
    rows: list  # lists of strings and numbers, or None where there is no value
    mosaic: list  # panels, see draw_panels


@dataclass(eq=False)
class Picture:
    """An RGB picture, or a label map in its classes' colours."""

    title: str
    picture: np.ndarray  # uint8 [H, W, 3], or integers [H, W]
    palette: Sequence | None = None  # of a label map

    def draw(self, axes):
        """Draw the picture into ``matplotlib.axes.Axes``."""
        is_label = self.palette is not None
        picture = colour_label(self.picture, self.palette) if is_label else self.picture
        axes.imshow(picture, interpolation='nearest')
        axes.axis('off')


@dataclass(eq=False)
class Map:
    """A map of numbers, by default over the grey image, whose padding is cut off."""

    title: str
    values: Tensor | np.ndarray  # [h, w]
    prediction: Prediction | None = None  # the image; None for a map that covers the whole axes
    limits: tuple | None = None  # of the colours; None for the least and greatest visible value
    pixel: tuple | None = None  # row and column of the original image, to mark
    over_image: bool = True  # whether to show the image below the map
    side: str = ''  # words at the left
    bar: bool = True  # whether to draw a colour bar
    cmap: str = 'viridis'

    def draw(self, axes):
        """Draw the map into ``matplotlib.axes.Axes``."""
        values, prediction = np.asarray(self.values), self.prediction
        over_image, pixel = self.over_image and prediction, self.pixel
        visible, size, padded = values, values.shape, values.shape
        if prediction:
            visible = prediction.inside(values)
            size, padded = prediction.image.shape, prediction.padded_size
            pixel = pixel and prediction.seen_pixel(pixel)
        if over_image:
            # From mid-grey to white: a darker image would change the colours of the map above it.
            axes.imshow(prediction.image.mean(axis=2), cmap='gray', vmin=-255, vmax=255)
        low, high = self.limits or (visible.min(), visible.max())
        shown = axes.imshow(
            values,
            cmap=self.cmap,
            vmin=low,
            vmax=high,
            extent=(-0.5, padded[1] - 0.5, padded[0] - 0.5, -0.5),
            alpha=0.75 if over_image else 1,
            interpolation='bilinear' if over_image else 'nearest',
        )
        axes.set(xlim=(-0.5, size[1] - 0.5), ylim=(size[0] - 0.5, -0.5))
        if pixel:
            for colour, width in (('black', 3.2), ('white', 1.4)):
                style = dict(fillstyle='none', color=colour, markersize=9, markeredgewidth=width)
                axes.plot(*pixel[::-1], 'o', **style)
        axes.set(xticks=[], yticks=[])
        axes.set_ylabel(self.side, fontsize=SMALL)
        axes.spines[:].set_visible(False)
        if self.bar:
            place = axes.inset_axes((1.04, 0, 0.06, 1))
            bar = axes.figure.colorbar(shown, cax=place, format=FormatStrFormatter('%.2g'))
            bar.locator = MaxNLocator(3)
            bar.solids.set_alpha(1)
            place.tick_params(labelsize=SMALL)


def map_row(maps, titles=None, side='', **options):
    """Return a panel for each map of ``[C, h, w]``, with one scale, which the last one shows."""
    panels = [
        Map(title, values, over_image=False, bar=False, **options)
        for title, values in zip(titles or [''] * len(maps), maps, strict=True)
    ]
    panels[0].side, panels[-1].bar = side, True
    return panels


def kernel_row(kernels, titles=None, side=''):
    """Return a panel for each kernel of ``[C, k, k]``: red is positive, blue is negative."""
    limit = kernels.abs().max().clamp(min=1e-12).item()
    return map_row(kernels, titles, side, limits=(-limit, limit), cmap='RdBu_r')


@dataclass(eq=False)
class Bars:
    """Numbers as horizontal bars, from top to bottom, each with a name and a colour."""

    title: str
    names: Sequence
    values: Sequence
    colours: Sequence | str = NEUTRAL
    unit: str = ''

    def draw(self, axes):
        """Draw the bars into ``matplotlib.axes.Axes``."""
        places = range(len(self.names))
        axes.barh(places, self.values, color=self.colours, edgecolor='grey', linewidth=0.5)
        axes.set_yticks(places, self.names, parse_math=False)
        axes.tick_params(labelsize=SMALL)
        axes.invert_yaxis()
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.set_xlabel(self.unit, fontsize=SMALL)
        axes.spines[['top', 'right']].set_visible(False)


def in_rows(panels, columns):
    """Return panels as rows of a mosaic, the last one filled up with empty places."""
    panels = [*panels, *[None] * (-len(panels) % columns)]
    return [panels[start : start + columns] for start in range(0, len(panels), columns)]


def draw_panels(figure, mosaic):
    """Draw panels into a figure.

    Args:
        figure (matplotlib.figure.FigureBase): The figure.
        mosaic (list[list]): Rows of panels, all of one length, with None for an empty place. A
            panel in several places beside each other fills them all.
    """
    for panel, axes in figure.subplot_mosaic(mosaic, empty_sentinel=None).items():
        panel.draw(axes)
        # The name of a class may have dollar signs, and is no formula.
        axes.set_title(panel.title, fontsize=SMALL + 1, parse_math=False)


def mosaic_height(mosaic, width, aspect):
    """Return the height in inches of a mosaic whose pictures are ``aspect`` as high as wide."""
    if any(isinstance(panel, Bars) for row in mosaic for panel in row):
        aspect = max(aspect, 1)
    return len(mosaic) * (width / len(mosaic[0]) * aspect + 0.3)


def draw_sheet(parts, classes, palette, width=12.0, aspect=1.0):
    """Draw mosaics of panels below each other, and below them a legend of the classes in them.

    Args:
        parts (Sequence[tuple[str, str, list]]): For each mosaic, the title above and an explanation
            below it, either of which may be empty, and the mosaic, see :func:`draw_panels`.
        classes (Sequence[str]): Name of each class.
        palette (Sequence[Sequence[int]]): RGB in 0..255 of each class.
        width (float): Width in inches. Default: 12.0.
        aspect (float): Height of the images divided by their width. Default: 1.0.

    Returns:
        matplotlib.figure.Figure: The sheet.
    """
    panels = [panel for *_, mosaic in parts for row in mosaic for panel in row]
    labels = [each.picture for each in panels if isinstance(each, Picture) and each.palette]
    found = classes_in(labels)
    columns = min(LEGEND_COLUMNS, max(1, int(width / 1.6)))
    heights = [
        mosaic_height(mosaic, width, aspect) + 0.8 * bool(title) for title, _, mosaic in parts
    ]
    legend = 0.3 + 0.22 * -(-len(found) // columns)
    figure = Figure((width, sum(heights) + legend), layout='constrained')
    figures = figure.subfigures(len(parts), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, (title, explanation, mosaic) in zip(figures, parts, strict=True):
        if title:
            part.suptitle(title, fontsize=12)
            part.supxlabel(explanation, fontsize=SMALL, color='0.35')
        draw_panels(part, mosaic)
    entries = []
    for index in found:
        colour = np.divide(palette[index] if index < len(palette) else IGNORED_COLOUR, 255)
        # Matplotlib would read what stands between two bare dollar signs as a formula.
        name = class_name(index, classes).replace('$', r'\$')
        entries.append(Patch(facecolor=colour, edgecolor='grey', linewidth=0.5, label=name))
    place = 'outside lower center'
    figure.legend(handles=entries, loc=place, ncols=columns, fontsize=9, frameon=False)
    return figure


def colour_label(label, palette):
    """Return a label map as a picture in the classes' colours, white where it is ignored.

    Args:
        label (np.ndarray): Integers ``[H, W]``.
        palette (Sequence[Sequence[int]]): RGB in 0..255 of each class.

    Returns:
        np.ndarray: uint8 ``[H, W, 3]``.
    """
    colours = np.full((IGNORED + 1, 3), IGNORED_COLOUR, np.uint8)
    colours[: len(palette)] = palette
    return colours[label]


def classes_in(labels):
    """Return the values in label maps, each once and in ascending order: list[int]."""
    found = [np.unique(label) for label in labels if label is not None]
    return np.unique(np.concatenate(found)).tolist() if found else []


def class_name(index, classes):
    """Return the name of a class, or ``'ignored'`` for a value above the last class."""
    return classes[index] if index < len(classes) else 'ignored'


def most_varied(maps, count):
    """Return ``count`` channels of maps ``[C, h, w]`` that vary most over the pixels: list[int]."""
    return maps.flatten(1).std(dim=1).argsort(descending=True)[:count].tolist()

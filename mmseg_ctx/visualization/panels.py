"""The panels of a sheet: each function draws one picture into Matplotlib axes."""

from typing import NamedTuple

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.ticker import FormatStrFormatter, MaxNLocator
from torch import Tensor

from mmseg_ctx.visualization.labels import colour_entry, colour_label

PIXEL_WIDTH = 4.8
"""Width in inches of the drawing about one pixel: half a wide page, or a phone's screen."""
SMALL = 8
"""Font size in points on colour bars and axes. Titles are one point larger."""
SEQUENTIAL, DIVERGING = 'viridis', 'RdBu_r'
NEUTRAL = '#9aa7b5'
"""Colour of bars that do not stand for a class."""


class PixelTable(NamedTuple):
    """What a method computed at one pixel, as text and numbers.

    Attributes:
        sentence (str): The main result in one sentence.
        columns (Sequence[str]): Names of the columns.
        rows (list[list]): Strings and numbers, or None where there is no value.
    """

    sentence: str
    columns: tuple
    rows: list


def show_picture(axes, picture, title):
    """Show an RGB picture, uint8 ``[H, W, 3]``."""
    axes.imshow(picture, interpolation='nearest')
    _finish(axes, title)


def show_label(axes, label, palette, title):
    """Show a label map, integers ``[H, W]``, in its classes' colours."""
    show_picture(axes, colour_label(label, palette), title)


def show_map(axes, values, title, frame=None, image=None, limits=None, cmap=SEQUENTIAL):
    """Show a map of numbers ``[h, w]``, over a grey image if one is given.

    Args:
        axes (matplotlib.axes.Axes): The axes to draw in.
        values (Tensor | np.ndarray): The numbers.
        title (str): Title of the axes.
        frame (Frame | None): Where the map lies over the padded image; the padding is cut off. None
            shows the whole map, one pixel for each cell. Default: None.
        image (np.ndarray | None): RGB image, uint8 ``[H, W, 3]``, to show below the map; it needs
            ``frame``. Default: None.
        limits (tuple[float] | None): Values of the first and the last colour; None for the smallest
            and the largest visible value. Default: None.
        cmap (str): Name of a Matplotlib colour map. Default: ``'viridis'``.

    Returns:
        matplotlib.image.AxesImage: The image, for :func:`add_colour_bar`.
    """
    values = _array(values)
    (height, width), (bottom, right) = frame or (values.shape, values.shape)
    if image is not None:
        # From mid-grey to white: a darker image would change the colours of the map above it.
        axes.imshow(image.mean(axis=2), cmap='gray', vmin=-255, vmax=255)
    visible = values if frame is None else frame.inside(values)
    low, high = limits or (visible.min(), visible.max())
    shown = axes.imshow(
        values,
        cmap=cmap,
        vmin=low,
        vmax=high,
        extent=(-0.5, right - 0.5, bottom - 0.5, -0.5),
        alpha=1 if image is None else 0.75,
        interpolation='nearest' if image is None else 'bilinear',
    )
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    _finish(axes, title)
    return shown


def mark_pixel(axes, row, column):
    """Mark a pixel by a white cross with a black edge, in axes whose coordinates are pixels."""
    for colour, width in (('black', 3.2), ('white', 1.4)):
        axes.plot(column, row, marker='+', color=colour, markersize=12, markeredgewidth=width)


def show_kernels(axes, kernels, title, columns=4, limit=None):
    """Show kernels ``[n, k, k]`` side by side; return the image, for :func:`add_colour_bar`.

    Zero is white; ``limit`` is the value of the last colour, by default the largest magnitude.
    """
    kernels = _array(kernels)
    count, side, _ = kernels.shape
    gap = max(1, side // 3)
    rows, columns = -(-count // columns), min(columns, count)
    sheet = np.full((rows * (side + gap) - gap, columns * (side + gap) - gap), np.nan)
    for index, kernel in enumerate(kernels):
        top, left = (position * (side + gap) for position in divmod(index, columns))
        sheet[top : top + side, left : left + side] = kernel
    limit = limit or max(np.abs(kernels).max(), 1e-12)
    shown = axes.imshow(sheet, cmap=DIVERGING, vmin=-limit, vmax=limit, interpolation='nearest')
    _finish(axes, title)
    return shown


def show_bars(axes, names, values, colours, title, unit):
    """Show numbers as horizontal bars, from top to bottom, each with a name and a colour."""
    places = np.arange(len(names))
    axes.barh(places, values, color=colours, edgecolor='grey', linewidth=0.5)
    axes.set_yticks(places, names, parse_math=False)
    axes.tick_params(labelsize=SMALL)
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel(unit, fontsize=SMALL)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)
    axes.set_title(title, fontsize=SMALL + 1)


# How a pixel's class may change between two predictions; the last two need a ground truth.
CHANGES = {
    'same class': '#eeeeee',
    'another class': '#9e79b8',
    'better': '#1a9850',
    'worse': '#d73027',
}


def show_changes(axes, before, after, label, title):
    """Show where two predictions ``[H, W]`` differ and how large a share, below the title.

    If there is a ground truth ``label``, it shows which of the two is right.
    """
    differ = before != after
    kinds = differ.astype(int)
    text = f'{differ.mean():.1%} differ'
    if label is not None:
        better, worse = differ & (after == label), differ & (before == label)
        kinds = kinds + better + 2 * worse
        text = f'{better.mean():.1%} better, {worse.mean():.1%} worse'
    colours = ListedColormap(list(CHANGES.values()))
    axes.imshow(kinds, cmap=colours, vmin=0, vmax=len(CHANGES) - 1, interpolation='nearest')
    _finish(axes, f'{title}\n{text}')


def changes_legend(with_label):
    """Return the entries of a legend for :func:`show_changes`."""
    shown = list(CHANGES.items())[: None if with_label else 2]
    return [colour_entry(name, colour) for name, colour in shown]


def add_colour_bar(shown, label=None):
    """Add a colour bar to the right of a picture from :func:`show_map` or :func:`show_kernels`."""
    axes = shown.axes
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    # The width is a share of the longer side; the bar of a tall picture would be too thin.
    side = max(1, abs(top - bottom) / (right - left))
    place = axes.inset_axes((1 + 0.04 * side, 0, 0.06 * side, 1))
    bar = axes.figure.colorbar(shown, cax=place)
    bar.solids.set_alpha(1)
    bar.ax.tick_params(labelsize=SMALL)
    # The bar of a flat picture has room for few numbers.
    bar.locator = MaxNLocator(4 if abs(top - bottom) > 0.6 * (right - left) else 2)
    bar.formatter = FormatStrFormatter('%.2g')
    bar.update_ticks()
    if label:
        bar.set_label(label, fontsize=SMALL)


def most_varied(maps, count):
    """Return ``count`` channels of maps ``[C, h, w]`` that vary most over the pixels: list[int]."""
    return maps.flatten(1).std(dim=1).argsort(descending=True)[:count].tolist()


def relative(maps, frame):
    """Return maps ``[C, h, w]``, each divided by its own largest magnitude in the image."""
    return maps / frame.inside(maps).abs().amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)


def _array(values):
    return (
        values.detach().float().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    )


def _finish(axes, title):
    # The name of a class may have dollar signs, and is no formula.
    axes.set_title(title, fontsize=SMALL + 1, parse_math=False)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)

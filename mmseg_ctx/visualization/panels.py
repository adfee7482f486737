"""The pictures that sheets are made of, each drawn into axes of Matplotlib's."""

import numpy as np
import torch.nn.functional as F
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from matplotlib.ticker import FormatStrFormatter, MaxNLocator
from torch import Tensor

from mmseg_ctx.visualization.sheet import colour_label

SMALL = 8
"""Points of the text on colour bars and axes; titles are a point larger."""
SEQUENTIAL, DIVERGING = 'viridis', 'RdBu_r'


def show_picture(axes, picture, title):
    """Show an RGB picture, uint8 ``[H, W, 3]``."""
    axes.imshow(picture, interpolation='nearest')
    _finish(axes, title)


def show_label(axes, label, palette, title):
    """Show a label map, integers ``[H, W]``, in its classes' colours."""
    show_picture(axes, colour_label(label, palette), title)


def show_map(axes, values, title, image=None, limits=None, cmap=SEQUENTIAL):
    """Show a map of numbers, over a grey image if one is given.

    Args:
        axes (matplotlib.axes.Axes): Where.
        values (Tensor | np.ndarray): ``[h, w]``.
        title (str): Its title.
        image (np.ndarray | None): RGB image, uint8 ``[H, W, 3]``, which shows through.
            Default: None.
        limits (tuple[float] | None): Values of the first and the last colour; by default the
            smallest and the largest. Default: None.
        cmap (str): Matplotlib's name of the colours. Default: ``'viridis'``.

    Returns:
        matplotlib.image.AxesImage: For a colour bar.
    """
    values = _array(values)
    low, high = limits or (values.min(), values.max())
    height, width = values.shape if image is None else image.shape[:2]
    place = dict(extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    if image is not None:
        # From mid-grey to white, or the colours above it would not be those of the colour bar.
        axes.imshow(image.mean(axis=2), cmap='gray', vmin=-255, vmax=255, **place)
        place.update(alpha=0.75, interpolation='bilinear')
    else:
        place.update(interpolation='nearest')
    shown = axes.imshow(values, cmap=cmap, vmin=low, vmax=high, **place)
    _finish(axes, title)
    return shown


def show_kernels(axes, kernels, title, columns=4, limit=None):
    """Show kernels side by side, white at zero.

    Args:
        axes (matplotlib.axes.Axes): Where.
        kernels (Tensor): ``[n, k, k]``.
        title (str): Its title.
        columns (int): How many there are in a row. Default: 4.
        limit (float | None): Value of the last colour; by default the largest magnitude.
            Default: None.

    Returns:
        matplotlib.image.AxesImage: For a colour bar.
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
    """Show numbers as horizontal bars, from top to bottom.

    Args:
        axes (matplotlib.axes.Axes): Where.
        names (Sequence[str]): What each bar is about.
        values (Sequence[float]): Their lengths.
        colours (Sequence): Matplotlib's colours.
        title (str): Its title.
        unit (str): What the lengths are.
    """
    places = np.arange(len(names))
    axes.barh(places, values, color=colours, edgecolor='grey', linewidth=0.5)
    axes.set_yticks(places, names)
    axes.tick_params(labelsize=SMALL)
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel(unit, fontsize=SMALL)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)
    axes.set_title(title, fontsize=SMALL + 1)


# What a pixel's class may do from one prediction to another; the last two need a label.
CHANGES = {
    'same class': '#eeeeee',
    'another class': '#9e79b8',
    'better': '#1a9850',
    'worse': '#d73027',
}


def show_changes(axes, before, after, label, title):
    """Show where two predictions differ, and with a label whether that is for the better.

    Args:
        axes (matplotlib.axes.Axes): Where.
        before (np.ndarray): Classes ``[H, W]``.
        after (np.ndarray): Classes ``[H, W]``.
        label (np.ndarray | None): Ground truth ``[H, W]``.
        title (str): Its title; shares of the pixels are put below it.
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
    """Return the entries of a legend to :func:`show_changes`."""
    shown = list(CHANGES.items())[: None if with_label else 2]
    return [
        Patch(facecolor=colour, edgecolor='grey', linewidth=0.5, label=name)
        for name, colour in shown
    ]


def add_colour_bar(shown, label=None):
    """Put a colour bar beside a picture, as high as the picture.

    Args:
        shown (matplotlib.image.AxesImage): What drew the picture returned.
        label (str | None): What the numbers are. Default: None.
    """
    axes = shown.axes
    left, right, bottom, top = shown.get_extent()
    # A share of the longer side, or the bar of a tall picture would be a sliver.
    side = max(1, abs(top - bottom) / (right - left))
    place = axes.inset_axes((1 + 0.04 * side, 0, 0.06 * side, 1))
    bar = axes.figure.colorbar(shown, cax=place)
    bar.solids.set_alpha(1)
    bar.ax.tick_params(labelsize=SMALL)
    bar.locator = MaxNLocator(4)
    bar.formatter = FormatStrFormatter('%.2g')
    bar.update_ticks()
    if label:
        bar.set_label(label, fontsize=SMALL)


def most_varied(maps, count):
    """Return the channels that differ most from place to place, the most varied first.

    Args:
        maps (Tensor): ``[C, h, w]``.
        count (int): How many.

    Returns:
        list[int]: Indices of channels.
    """
    return maps.flatten(1).std(dim=1).argsort(descending=True)[:count].tolist()


def relative(maps):
    """Return maps ``[C, h, w]``, each divided by its own largest magnitude."""
    return maps / maps.abs().amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)


def resize_nearest(label, size):
    """Return a label map ``[H, W]`` of another size (height, width), as a tensor."""
    return F.interpolate(label[None, None].float(), size, mode='nearest')[0, 0].long()


def _array(values):
    return (
        values.detach().float().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    )


def _finish(axes, title):
    axes.set_title(title, fontsize=SMALL + 1)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)

"""Colour label maps by class, and make the entries of legends."""

import numpy as np
from matplotlib.patches import Patch

from mmseg_ctx.ops.labels import IGNORED

IGNORED_COLOUR = (255, 255, 255)


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
    """Return the values in label maps, each once, in ascending order.

    Args:
        labels (Iterable[np.ndarray | None]): Label maps of any shapes; None is skipped.

    Returns:
        np.ndarray: Classes, and 255 if a pixel is ignored.
    """
    return np.unique(np.concatenate([np.ravel(label) for label in labels if label is not None]))


def class_name(index, classes):
    """Return the name of a class, or ``'ignored'`` for a value above the last class."""
    return classes[index] if index < len(classes) else 'ignored'


def class_entries(labels, classes, palette):
    """Return the entries of a legend for the classes in label maps.

    Args:
        labels (Iterable[np.ndarray | None]): See :func:`classes_in`.
        classes (Sequence[str]): Name of each class.
        palette (Sequence[Sequence[int]]): RGB in 0..255 of each class.

    Returns:
        list[Patch]: For each class, a patch in its colour with its name.
    """
    return [
        colour_entry(
            class_name(index, classes),
            np.divide(palette[index] if index < len(palette) else IGNORED_COLOUR, 255),
        )
        for index in classes_in(labels).tolist()
    ]


def colour_entry(name, colour):
    """Return an entry of a legend: a patch in a Matplotlib colour, with a name."""
    # Matplotlib would read what stands between two bare dollar signs as a formula.
    name = name.replace('$', r'\$')
    return Patch(facecolor=colour, edgecolor='grey', linewidth=0.5, label=name)

"""Label maps in their classes' colours, and the legends of colours."""

import numpy as np
from matplotlib.patches import Patch

from mmseg_ctx.ops.labels import IGNORED

IGNORED_COLOUR = (255, 255, 255)


def colour_label(label, palette):
    """Paint a label map in its classes' colours, white where it has no class.

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
    """Return the values that label maps hold, each once, in ascending order.

    Args:
        labels (Iterable[np.ndarray | None]): Label maps of any shapes; a None is passed over.

    Returns:
        np.ndarray: Classes, and 255 where a pixel has none.
    """
    return np.unique(np.concatenate([np.ravel(label) for label in labels if label is not None]))


def class_name(index, classes):
    """Return the name of a class, and ``'ignored'`` for the pixels without one."""
    return classes[index] if index < len(classes) else 'ignored'


def class_entries(labels, classes, palette):
    """Return a legend's entries for the classes that label maps show.

    Args:
        labels (Iterable[np.ndarray | None]): See :func:`classes_in`.
        classes (Sequence[str]): Name of each class.
        palette (Sequence[Sequence[int]]): RGB in 0..255 of each class.

    Returns:
        list[Patch]: A patch in the colour of each class, with its name.
    """
    return [
        colour_entry(
            class_name(index, classes),
            np.divide(palette[index] if index < len(palette) else IGNORED_COLOUR, 255),
        )
        for index in classes_in(labels).tolist()
    ]


def colour_entry(name, colour):
    """Return a legend's entry: a patch of one colour of Matplotlib's, and its name."""
    return Patch(facecolor=colour, edgecolor='grey', linewidth=0.5, label=name)

"""ACNet's context: where it uses global and where local context (the paper's Figure 4)."""

from itertools import zip_longest
from typing import NamedTuple

from torch import Tensor

from mmseg_ctx.visualization.panels import PixelTable, add_colour_bar, mark_pixel, show_map

TITLE = 'ACNet: global or local context, place by place'
EXPLANATION = (
    'Where w is near 1, a block adds the feature of the whole image. Where 1 − w is near 1, it '
    'fuses the features of a finer stage.\n'
    'A block without a local gate reads no finer stage.'
)
HEIGHT = 5.0


class Gates(NamedTuple):
    """The gates of one block.

    Attributes:
        title (str): The block's number, 1 for the coarsest, and the features' size in the image's.
        weight (Tensor): w of Eq. 2, the gate of the global context, ``[h, w]`` in (0, 1].
        local (Tensor | None): 1 − w of Eq. 4 at the finer stage's size; None where a block has
            global context alone.
    """

    title: str
    weight: Tensor
    local: Tensor | None


def read_context(head, shown, prediction):
    """Return the :class:`Gates` of each block, coarsest first."""
    weights = [gate[0, 0].float().cpu() for gate in shown['gate']]
    local = [gate[0, 0].float().cpu() for gate in shown.get('local_gate', [])]
    blocks = []
    for number, (weight, finer) in enumerate(zip_longest(weights, local), start=1):
        stride = round(prediction.frame.padded_size[0] / weight.size(0))
        blocks.append(Gates(f'block {number} at 1/{stride}', weight, finer))
    return blocks


def draw(figure, blocks, prediction):
    """Draw each global gate over the image, and below it the gate of the local context."""
    grid = figure.subplots(2, len(blocks), squeeze=False)
    for gates, (above, below) in zip(blocks, grid.T, strict=True):
        _draw_gate(above, gates.weight, f'{gates.title}: global gate w', prediction)
        if gates.local is None:
            below.set_axis_off()
        else:
            _draw_gate(below, gates.local, f'{gates.title}: local gate 1 − w', prediction)


def _draw_gate(axes, values, title, prediction):
    add_colour_bar(show_map(axes, values, title, prediction.frame, prediction.image, (0, 1)))


def read_pixel(blocks, prediction, row, column):
    """Return, for each block, its :class:`Gates`, w and 1 − w or None, at the pixel."""
    return [
        (
            gates,
            *(
                None if gate is None else gate[prediction.cell(row, column, gate.shape)].item()
                for gate in (gates.weight, gates.local)
            ),
        )
        for gates in blocks
    ]


def describe_pixel(here, prediction):
    """Return the gates at the pixel."""
    shares = ', '.join(f'{weight:.2f} in {gates.title}' for gates, weight, _ in here)
    return PixelTable(
        f'The gate w of the global context is {shares}.',
        ('block', 'global gate w', 'local gate 1 − w'),
        [[gates.title, weight, local] for gates, weight, local in here],
    )


def draw_pixel(figure, here, prediction, row, column):
    """Draw the global gate of each block over the image, and mark the pixel."""
    figure.set_figheight(1.8)
    grid = figure.subplots(1, len(here), squeeze=False)[0]
    for axes, (gates, weight, _) in zip(grid, here, strict=True):
        _draw_gate(axes, gates.weight, f'{gates.title}\nw = {weight:.2f}', prediction)
        mark_pixel(axes, *prediction.seen_pixel(row, column))

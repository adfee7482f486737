"""ACNet's context: where it uses global and where local context (the paper's Figure 4)."""

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


class Gate(NamedTuple):
    """The gate of one block.

    Attributes:
        block (int): The block's number; 1 is the coarsest.
        stride (int): How many pixels of the image a cell of the gate covers in each direction.
        weight (Tensor): w of Eq. 2, the gate of the global context, ``[h, w]`` in (0, 1].
        gates_local (bool): Whether 1 − w gates a finer stage's features (Eq. 4). A last block with
            global context alone has no such gate.
    """

    block: int
    stride: int
    weight: Tensor
    gates_local: bool

    @property
    def title(self):
        """The block's number, and the size of its features relative to the image."""
        return f'block {self.block} at 1/{self.stride}'


def recorded_modules(head):
    """Return the modules to record by name: the global context modules, coarsest first."""
    gates = [*(block.global_context for block in head.blocks), head.global_context]
    gates = [gate for gate in gates if gate is not None]
    return {f'gate {index}': module for index, module in enumerate(gates)}


def read_context(head, records, scene):
    """Return what the head computed for one image.

    Args:
        head (AdaptiveContextHead): The head.
        records (dict[str, Record]): What the modules of :func:`recorded_modules` computed.
        scene (Prediction): The image.

    Returns:
        list[Gate]: One for each block, coarsest first.
    """
    gates = []
    for block, name in enumerate(recorded_modules(head), start=1):
        _, weight = records[name].output  # w: [1, 1, h, w]
        weight = weight[0, 0].float().cpu()
        stride = round(scene.frame.padded_size[0] / weight.size(0))
        gates.append(Gate(block, stride, weight, block <= len(head.blocks)))
    return gates


def draw(figure, gates, scene):
    """Draw each global gate over the image, and below it the gate of the local context.

    Args:
        figure (matplotlib.figure.SubFigure): The figure to draw in.
        gates (list[Gate]): See :func:`read_context`.
        scene (Prediction): The image.
    """
    grid = figure.subplots(2, len(gates), squeeze=False)
    for gate, (above, below) in zip(gates, grid.T, strict=True):
        _draw_gate(above, gate.weight, f'{gate.title}: global gate w', scene)
        if gate.gates_local:
            _draw_gate(below, 1 - gate.weight, f'{gate.title}: local gate 1 − w', scene)
        else:
            below.set_axis_off()


def _draw_gate(axes, values, title, scene):
    add_colour_bar(show_map(axes, values, title, scene.frame, scene.image, (0, 1)))


class GateHere(NamedTuple):
    """The gate of one block at one pixel.

    Attributes:
        gate (Gate): See :func:`read_context`.
        weight (float): w at the cell of the feature map that covers the pixel.
    """

    gate: Gate
    weight: float


def read_pixel(gates, scene, row, column):
    """Return the gate of each block at a pixel of the original image, as :class:`GateHere`."""
    return [
        GateHere(gate, gate.weight[scene.cell(row, column, gate.weight.shape)].item())
        for gate in gates
    ]


def describe_pixel(here, scene):
    """Return the gates at a pixel as a :class:`~mmseg_ctx.visualization.panels.PixelTable`."""
    shares = ', '.join(f'{each.weight:.2f} in block {each.gate.block}' for each in here)
    return PixelTable(
        f'The gate w of the global context is {shares}.',
        ('block', 'features at', 'global gate w', 'local gate 1 − w'),
        [
            [
                each.gate.block,
                f'1/{each.gate.stride}',
                each.weight,
                1 - each.weight if each.gate.gates_local else None,
            ]
            for each in here
        ],
    )


def pixel_height(here):
    """Return how many inches high the drawing about a pixel is."""
    return 1.8


def draw_pixel(figure, here, scene, row, column):
    """Draw the gate of each block over the image, and mark the pixel."""
    grid = figure.subplots(1, len(here), squeeze=False)[0]
    for axes, each in zip(grid, here, strict=True):
        _draw_gate(axes, each.gate.weight, f'{each.gate.title}\nw = {each.weight:.2f}', scene)
        mark_pixel(axes, *scene.seen_pixel(row, column))

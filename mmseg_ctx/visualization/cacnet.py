"""CaC-Net's context: the kernels it predicts and the weights they give (the paper's Figure 4)."""

from mmseg_ctx.visualization.panels import (
    SMALL,
    add_colour_bar,
    most_varied,
    relative,
    show_kernels,
    show_map,
)

CHANNELS = 4
ROWS = ('features X', 'weights W', 'X* = W · X', 'kernel')
HEIGHT = 6.0


def modules(head):
    """Return the modules to record by name: each context-adaptive convolution."""
    return {f'context_convs.{index}': module for index, module in enumerate(head.context_convs)}


def draw(figure, head, records, scene):
    """Draw for each module four channels, those whose weights vary most from place to place.

    Args:
        figure (matplotlib.figure.SubFigure): Where.
        head (ContextAdaptiveConvHead): The head.
        records (dict): See :func:`mmseg_ctx.visualization.scene.recording`.
        scene (Scene): The image.
    """
    parts = figure.subfigures(1, len(head.context_convs), squeeze=False, wspace=0.02)[0]
    for index, (part, module) in enumerate(zip(parts, head.context_convs, strict=True)):
        (x,), weighted = records[f'context_convs.{index}']  # [1, C, h, w]
        kernels = module.predict_kernels(x)  # [1, C, s, s]
        weights = module.weights(x, kernels)  # [1, C, h, w]
        dilations = ', '.join(map(str, module.dilations))
        part.suptitle(
            f'{module.kernel_size}×{module.kernel_size} kernels, dilations {dilations}',
            fontsize=SMALL + 2,
        )
        _draw_module(part, len(module.dilations), x[0], weights[0], weighted[0], kernels[0])


def _draw_module(figure, dilations, x, weights, weighted, kernels):
    channels = most_varied(weights.float(), CHANNELS)
    grid = figure.subplots(len(ROWS), len(channels), squeeze=False)
    limit = kernels[channels].abs().max().item()
    for column, channel in enumerate(channels):
        grid[0, column].set_title(f'channel {channel}')
        kernel = kernels[channel : channel + 1]
        shown = show_kernels(grid[-1, column], kernel, '', limit=limit)
    add_colour_bar(shown)
    # Channels differ in size by orders of magnitude; weights have a range of their own.
    rows = (
        (relative(x[channels]), (0, 1), 'of the maximum'),
        (weights[channels], (0, dilations), None),
        (relative(weighted[channels]), (0, 1), 'of the maximum'),
    )
    for row, (maps, limits, unit) in zip(grid[:-1], rows, strict=True):
        for axes, values in zip(row, maps, strict=True):
            shown = show_map(axes, values, axes.get_title(), limits=limits)
        add_colour_bar(shown, unit)
    for axes, title in zip(grid[:, 0], ROWS, strict=True):
        axes.set_ylabel(title, fontsize=SMALL + 1)

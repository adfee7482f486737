"""CaC-Net's context: the kernels it predicts and the weights they give (the paper's Figure 4)."""

from typing import NamedTuple

from torch import Tensor

from mmseg_ctx.visualization.panels import (
    SMALL,
    add_colour_bar,
    most_varied,
    relative,
    show_kernels,
    show_map,
)

TITLE = 'CaC-Net: context predicts kernels, which weigh features'
EXPLANATION = (
    'Kernels made from the whole image give each channel a weight W at each place. Where W is '
    'above 1 the channel is amplified, below 1 it is damped.'
)
CHANNELS = 4
ROWS = ('features X', 'weights W', 'X* = W · X', 'kernel')
HEIGHT = 6.0


class WeighedFeatures(NamedTuple):
    """What one context-adaptive convolution computed.

    Attributes:
        kernel_size (int): s.
        dilations (tuple[int]): Dilations that each kernel is applied with; W is at most their
            number.
        features (Tensor): X, ``[C, h, w]``.
        weights (Tensor): W of Eq. 2, ``[C, h, w]``.
        weighed (Tensor): X*, ``[C, h, w]``.
        kernels (Tensor): D of Eq. 1, ``[C, s, s]``.
    """

    kernel_size: int
    dilations: tuple
    features: Tensor
    weights: Tensor
    weighed: Tensor
    kernels: Tensor

    @property
    def title(self):
        """The kernels' size and dilations."""
        dilations = ', '.join(map(str, self.dilations))
        return f'{self.kernel_size}×{self.kernel_size} kernels, dilations {dilations}'


def recorded_modules(head):
    """Return the modules to record by name: each context-adaptive convolution."""
    return {f'context_convs.{index}': module for index, module in enumerate(head.context_convs)}


def read_context(head, records, scene):
    """Return what the head computed for one image.

    Args:
        head (ContextAdaptiveConvHead): The head.
        records (dict): See :func:`mmseg_ctx.visualization.scene.recording`.
        scene (Scene): The image.

    Returns:
        list[WeighedFeatures]: One for each context-adaptive convolution.
    """
    found = []
    for name, module in recorded_modules(head).items():
        (features,), weighed = records[name]  # [1, C, h, w]
        kernels = module.predict_kernels(features)  # [1, C, s, s]
        weights = module.weights(features, kernels)  # [1, C, h, w]
        tensors = [each[0].float().cpu() for each in (features, weights, weighed, kernels)]
        found.append(WeighedFeatures(module.kernel_size, module.dilations, *tensors))
    return found


def draw(figure, convolutions, scene):
    """Draw for each module four channels, those whose weights vary most from place to place.

    Args:
        figure (matplotlib.figure.SubFigure): Where.
        convolutions (list[WeighedFeatures]): See :func:`read_context`.
        scene (Scene): The image.
    """
    parts = figure.subfigures(1, len(convolutions), squeeze=False, wspace=0.02)[0]
    for part, convolution in zip(parts, convolutions, strict=True):
        part.suptitle(convolution.title, fontsize=SMALL + 2)
        _draw_convolution(part, convolution, scene.frame)


def _draw_convolution(figure, convolution, frame):
    channels = most_varied(frame.inside(convolution.weights), CHANNELS)
    grid = figure.subplots(len(ROWS), len(channels), squeeze=False)
    limit = convolution.kernels[channels].abs().max().item()
    for column, channel in enumerate(channels):
        grid[0, column].set_title(f'channel {channel}')
        kernel = convolution.kernels[channel : channel + 1]
        shown = show_kernels(grid[-1, column], kernel, '', limit=limit)
    add_colour_bar(shown)
    # Channels differ in size by orders of magnitude; weights have a range of their own.
    rows = (
        (relative(convolution.features[channels]), (0, 1), 'of the maximum'),
        (convolution.weights[channels], (0, len(convolution.dilations)), None),
        (relative(convolution.weighed[channels]), (0, 1), 'of the maximum'),
    )
    for row, (maps, limits, unit) in zip(grid[:-1], rows, strict=True):
        for axes, values in zip(row, maps, strict=True):
            shown = show_map(axes, values, axes.get_title(), frame, limits=limits)
        add_colour_bar(shown, unit)
    for axes, title in zip(grid[:, 0], ROWS, strict=True):
        axes.set_ylabel(title, fontsize=SMALL + 1)

"""CaC-Net's context: the predicted kernels and their weights (the paper's Figure 4)."""

from typing import NamedTuple

from torch import Tensor

from mmseg_ctx.visualization.panels import (
    SMALL,
    PixelTable,
    add_colour_bar,
    mark_pixel,
    most_varied,
    relative,
    show_kernels,
    show_map,
)

TITLE = 'CaC-Net: kernels weigh features'
EXPLANATION = (
    'The kernel of each channel gives it a weight W at each pixel. Where W is above 1, the channel '
    'is amplified; where it is below 1, the channel is damped.'
)
CHANNELS = 4
PIXEL_CHANNELS = 2
ROWS = ('features X', 'weights W', 'X* = W · X', 'kernel')
HEIGHT = 6.2
ORIGINS = dict(
    context='predicted from the image', pooled='from globally pooled features', fixed='learned'
)


class WeightedFeatures(NamedTuple):
    """What one context-adaptive convolution computed.

    Attributes:
        kernel_size (int): s.
        origin (str): Where the kernels come from.
        dilations (tuple[int]): Dilations that each kernel is applied with. W is the sum of one
            sigmoid for each, so at most their number.
        features (Tensor): X, ``[C, h, w]``.
        weights (Tensor): W of Eq. 2, ``[C, h, w]``.
        weighted (Tensor): X*, ``[C, h, w]``.
        kernels (Tensor): D of Eq. 1, ``[C, s, s]``.
    """

    kernel_size: int
    origin: str
    dilations: tuple
    features: Tensor
    weights: Tensor
    weighted: Tensor
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
        records (dict[str, Record]): What the modules of :func:`recorded_modules` computed.
        scene (Prediction): The image.

    Returns:
        list[WeightedFeatures]: One for each context-adaptive convolution.
    """
    found = []
    for name, module in recorded_modules(head).items():
        (features,), weighted = records[name]  # each [1, C, h, w]
        kernels = module.predict_kernels(features)  # [1, C, s, s]
        weights = module.weights(features, kernels)  # [1, C, h, w]
        tensors = [each[0].float().cpu() for each in (features, weights, weighted, kernels)]
        origin = ORIGINS[module.kernel_source]
        found.append(WeightedFeatures(module.kernel_size, origin, module.dilations, *tensors))
    return found


def draw(figure, convolutions, scene):
    """Draw, for each module, the four channels whose weights vary most over the image.

    Args:
        figure (matplotlib.figure.SubFigure): The figure to draw in.
        convolutions (list[WeightedFeatures]): See :func:`read_context`.
        scene (Prediction): The image.
    """
    parts = figure.subfigures(1, len(convolutions), squeeze=False, wspace=0.02)[0]
    for part, convolution in zip(parts, convolutions, strict=True):
        title = f'{convolution.title},\n{convolution.origin}'
        part.suptitle(title, fontsize=SMALL + 2)
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
    # Features of different channels differ by orders of magnitude; weights have a known range.
    rows = (
        (relative(convolution.features[channels], frame), (0, 1), 'of the maximum'),
        (convolution.weights[channels], (0, len(convolution.dilations)), None),
        (relative(convolution.weighted[channels], frame), (0, 1), 'of the maximum'),
    )
    for row, (maps, limits, unit) in zip(grid[:-1], rows, strict=True):
        for axes, values in zip(row, maps, strict=True):
            shown = show_map(axes, values, axes.get_title(), frame, limits=limits)
        add_colour_bar(shown, unit)
    for axes, title in zip(grid[:, 0], ROWS, strict=True):
        axes.set_ylabel(title, fontsize=SMALL + 1)


class AmplifiedChannels(NamedTuple):
    """The channels with the largest and the smallest weights at one pixel.

    Attributes:
        convolution (WeightedFeatures): See :func:`read_context`.
        weights (Tensor): W at the cell of the feature map that covers the pixel, ``[C]``.
        most (list[int]): The channels of the largest weights, largest first.
        least (list[int]): The channels of the smallest weights, smallest first.
    """

    convolution: WeightedFeatures
    weights: Tensor
    most: list
    least: list


def read_pixel(convolutions, scene, row, column):
    """Return each module's :class:`AmplifiedChannels` at a pixel of the original image."""
    found = []
    for convolution in convolutions:
        cell = scene.cell(row, column, convolution.weights.shape[1:])
        weights = convolution.weights[(slice(None), *cell)]  # [C]
        order = weights.argsort(descending=True, stable=True).tolist()
        count = min(PIXEL_CHANNELS, len(order))
        found.append(AmplifiedChannels(convolution, weights, order[:count], order[::-1][:count]))
    return found


def describe_pixel(here, scene):
    """Return the weights at a pixel as a :class:`~mmseg_ctx.visualization.panels.PixelTable`."""
    sentences = [
        f'Module {module} amplifies channel {each.most[0]} most, '
        f'W = {each.weights[each.most[0]]:.2f}, and channel {each.least[0]} least, '
        f'W = {each.weights[each.least[0]]:.2f}.'
        for module, each in enumerate(here, start=1)
    ]
    rows = [
        [module, kind, channel, each.weights[channel].item()]
        for module, each in enumerate(here, start=1)
        for kind, channels in (('most', each.most), ('least', each.least))
        for channel in channels
    ]
    return PixelTable(' '.join(sentences), ('module', 'amplified', 'channel', 'W here'), rows)


def pixel_height(here):
    """Return how many inches high the drawing about a pixel is."""
    return 2.7 * len(here)


def draw_pixel(figure, here, scene, row, column):
    """Draw W of the most and least amplified channels, and their kernels; mark the pixel."""
    parts = figure.subfigures(len(here), 1, squeeze=False)[:, 0]
    for module, (part, each) in enumerate(zip(parts, here, strict=True), start=1):
        part.suptitle(f'module {module}: {each.convolution.title}', fontsize=SMALL + 1)
        channels = each.most + each.least
        kernels = each.convolution.kernels[channels]
        limit = kernels.abs().max().item()
        grid = part.subplots(2, len(channels))
        for index, (channel, (above, below)) in enumerate(zip(channels, grid.T, strict=True)):
            title = f'channel {channel}\nW = {each.weights[channel]:.2f}'
            limits = 0, len(each.convolution.dilations)
            weights = show_map(
                above, each.convolution.weights[channel], title, scene.frame, limits=limits
            )
            mark_pixel(above, *scene.seen_pixel(row, column))
            kernel = show_kernels(below, kernels[index : index + 1], '', limit=limit)
        add_colour_bar(weights)
        add_colour_bar(kernel)
        grid[0, 0].set_ylabel('most', fontsize=SMALL)
        grid[0, len(each.most)].set_ylabel('least', fontsize=SMALL)
        grid[1, 0].set_ylabel('kernel', fontsize=SMALL)

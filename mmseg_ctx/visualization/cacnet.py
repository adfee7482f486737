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
        title (str): The kernels' size and dilations, and where the kernels come from.
        limit (int): The largest possible weight: W is the sum of a sigmoid for each dilation.
        features (Tensor): X, ``[C, h, w]``.
        weights (Tensor): W of Eq. 2, ``[C, h, w]``.
        kernels (Tensor): D of Eq. 1, ``[C, s, s]``.
    """

    title: str
    limit: int
    features: Tensor
    weights: Tensor
    kernels: Tensor


def read_context(head, shown, prediction):
    """Return the :class:`WeightedFeatures` of each context-adaptive convolution."""
    names = 'features', 'weights', 'kernels'
    tensors = [[each[0].float().cpu() for each in shown[name]] for name in names]
    found = []
    for conv, features, weights, kernels in zip(head.context_convs, *tensors, strict=True):
        size, dilations = conv.kernel_size, ', '.join(map(str, conv.dilations))
        origin = ORIGINS[conv.kernel_source]
        title = f'{size}×{size} kernels, dilations {dilations},\n{origin}'
        limit = len(conv.dilations)
        found.append(WeightedFeatures(title, limit, features, weights, kernels))
    return found


def draw(figure, convolutions, prediction):
    """Draw, for each module, the four channels whose weights vary most over the image."""
    parts = figure.subfigures(1, len(convolutions), squeeze=False, wspace=0.02)[0]
    for part, convolution in zip(parts, convolutions, strict=True):
        part.suptitle(convolution.title, fontsize=SMALL + 2)
        _draw_convolution(part, convolution, prediction.frame)


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
    features = convolution.features[channels]
    rows = (
        (relative(features, frame), (0, 1), 'of the maximum'),
        (convolution.weights[channels], (0, convolution.limit), None),
        (relative(features * convolution.weights[channels], frame), (0, 1), 'of the maximum'),
    )
    for row, (maps, limits, unit) in zip(grid[:-1], rows, strict=True):
        for axes, values in zip(row, maps, strict=True):
            shown = show_map(axes, values, axes.get_title(), frame, limits=limits)
        add_colour_bar(shown, unit)
    for axes, title in zip(grid[:, 0], ROWS, strict=True):
        axes.set_ylabel(title, fontsize=SMALL + 1)


def read_pixel(convolutions, prediction, row, column):
    """Return, for each module, its :class:`WeightedFeatures`, W ``[C]`` at the pixel, and channels.

    These are those of the largest weights, largest first, and of the smallest, smallest first.
    """
    found = []
    for convolution in convolutions:
        cell = prediction.cell(row, column, convolution.weights.shape[1:])
        weights = convolution.weights[(..., *cell)]  # [C]
        order = weights.argsort(descending=True, stable=True).tolist()
        found.append((convolution, weights, order[:PIXEL_CHANNELS], order[::-1][:PIXEL_CHANNELS]))
    return found


def describe_pixel(here, prediction):
    """Return the weights of these channels at the pixel."""
    sentences, rows = [], []
    for module, (_, weights, most, least) in enumerate(here, start=1):
        sentences.append(
            f'Module {module} amplifies channel {most[0]} most, W = {weights[most[0]]:.2f}, '
            f'and channel {least[0]} least, W = {weights[least[0]]:.2f}.'
        )
        for kind, channels in (('most', most), ('least', least)):
            rows += [[module, kind, channel, weights[channel].item()] for channel in channels]
    return PixelTable(' '.join(sentences), ('module', 'amplified', 'channel', 'W here'), rows)


def draw_pixel(figure, here, prediction, row, column):
    """Draw W of the most and least amplified channels, and their kernels; mark the pixel."""
    figure.set_figheight(2.7 * len(here))
    parts = figure.subfigures(len(here), 1, squeeze=False)[:, 0]
    for module, (part, each) in enumerate(zip(parts, here, strict=True), start=1):
        convolution, values, most, least = each
        title = convolution.title.splitlines()[0].rstrip(',')
        part.suptitle(f'module {module}: {title}', fontsize=SMALL + 1)
        kernels = convolution.kernels[most + least]
        limit = kernels.abs().max().item()
        grid = part.subplots(2, len(kernels))
        for index, (channel, (above, below)) in enumerate(zip(most + least, grid.T, strict=True)):
            title = f'channel {channel}\nW = {values[channel]:.2f}'
            maps, limits = convolution.weights[channel], (0, convolution.limit)
            weights = show_map(above, maps, title, prediction.frame, limits=limits)
            mark_pixel(above, *prediction.seen_pixel(row, column))
            kernel = show_kernels(below, kernels[index : index + 1], '', limit=limit)
        add_colour_bar(weights)
        add_colour_bar(kernel)
        grid[0, 0].set_ylabel('most', fontsize=SMALL)
        grid[0, len(most)].set_ylabel('least', fontsize=SMALL)
        grid[1, 0].set_ylabel('kernel', fontsize=SMALL)

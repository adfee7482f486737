"""DMNet's context: the filters that it makes for an image, and their responses."""

from typing import NamedTuple

import torch
from torch import Tensor

from mmseg_ctx.visualization.panels import (
    NEUTRAL,
    SMALL,
    PixelTable,
    add_colour_bar,
    mark_pixel,
    most_varied,
    show_bars,
    show_kernels,
    show_map,
)

TITLE = 'DMNet: filters of several sizes, and the responses to them'
EXPLANATION = (
    'The response of a channel is the result of its filter after norm and activation, before the '
    '1×1 convolution that may mix the channels.\n'
    'A colour bar is for its whole row: responses, or weights of filters (red is positive, blue '
    'is negative).'
)
CHANNELS = 3
PIXEL_CHANNELS = 4
HIGHLIGHT = '#d95f02'
HEIGHT = 4.9
ORIGINS = dict(
    dynamic='made from the image', depthwise='learned', regular='learned, mean over inputs'
)


class Scale(NamedTuple):
    """What one branch computed.

    Attributes:
        size (str): Size of the filters, ``'k×k'``.
        origin (str): Where the filters come from.
        filters (Tensor): ``[C, k, k]``; filters that read all channels are averaged over them.
        response (Tensor): ``[C, h, w]``, the features after filters, norm and activation, before
            the 1×1 fusion mixes the channels.
    """

    size: str
    origin: str
    filters: Tensor
    response: Tensor


def read_context(head, shown, prediction):
    """Return the :class:`Scale` of each branch."""
    scales = []
    for filters, response in zip(shown['filters'], shown['response'], strict=True):
        # Made from the image: [1, C, k, k]; learned: [C, 1, k, k], or [C, C, k, k].
        filters = filters[0] if head.filter_type == 'dynamic' else filters.mean(dim=1)
        size = f'{filters.size(1)}×{filters.size(1)}'
        origin = ORIGINS[head.filter_type]
        scales.append(Scale(size, origin, filters.float().cpu(), response[0].float().cpu()))
    return scales


def draw(figure, scales, prediction):
    """Draw the mean response of each scale, and the responses and filters of some channels."""
    parts = figure.subfigures(1, len(scales), squeeze=False, wspace=0.02)[0]
    for part, scale in zip(parts, scales, strict=True):
        part.suptitle(f'{scale.size} filters, {scale.origin}', fontsize=SMALL + 2)
        channels = most_varied(prediction.frame.inside(scale.response), CHANNELS)
        # The narrow row keeps the numbers of a colour bar off the titles below it.
        cells = part.add_gridspec(4, len(channels), height_ratios=(2.2, 0.1, 1, 1))
        mean = scale.response.mean(dim=0)
        title = 'response, mean of channels'
        axes = part.add_subplot(cells[0, :])
        add_colour_bar(show_map(axes, mean, title, prediction.frame, prediction.image))
        _draw_channels(part, cells, scale, channels, prediction)


def _draw_channels(figure, cells, scale, channels, prediction):
    responses, filters = scale.response[channels], scale.filters[channels]
    limits = 0, prediction.frame.inside(responses).max().item()
    limit = filters.abs().max().item()
    for column, channel in enumerate(channels):
        above, below = (figure.add_subplot(cells[row, column]) for row in (2, 3))
        response = show_map(
            above, responses[column], f'channel {channel}', prediction.frame, limits=limits
        )
        kernel = show_kernels(below, filters[column : column + 1], '', limit=limit)
        if column == 0:
            above.set_ylabel('response', fontsize=SMALL)
            below.set_ylabel('weights', fontsize=SMALL)
    add_colour_bar(response)
    add_colour_bar(kernel)


class ScalesHere(NamedTuple):
    """How the scales respond at one pixel, read at the cell of the feature map that covers it.

    Attributes:
        scales (list[Scale]): See :func:`read_context`.
        responses (Tensor): The mean response of each scale's channels, ``[len(scales)]``.
        largest (int): Index of the scale with the largest mean response.
        channels (list[int]): The channels of that scale with the largest responses.
        channel_responses (Tensor): The responses of all channels of that scale, ``[C]``.
    """

    scales: list
    responses: Tensor
    largest: int
    channels: list
    channel_responses: Tensor


def read_pixel(scales, prediction, row, column):
    """Return the :class:`ScalesHere` at the pixel."""
    cell = prediction.cell(row, column, scales[0].response.shape[1:])
    here = torch.stack([scale.response[(..., *cell)] for scale in scales])  # [len(scales), C]
    responses = here.mean(dim=1)
    largest = responses.argmax().item()
    order = here[largest].argsort(descending=True, stable=True)[:PIXEL_CHANNELS].tolist()
    return ScalesHere(scales, responses, largest, order, here[largest])


def describe_pixel(here, prediction):
    """Return the responses at the pixel."""
    largest, response = here.scales[here.largest].size, here.responses[here.largest]
    return PixelTable(
        f'The {largest} filters respond most here: {response:.3f} in the mean of their channels.',
        ('filters', 'mean response here'),
        [
            [scale.size, each.item()]
            for scale, each in zip(here.scales, here.responses, strict=True)
        ],
    )


def draw_pixel(figure, here, prediction, row, column):
    """Draw the mean response of each scale, and the map and filters of the largest."""
    figure.set_figheight(3.7)
    above, below = figure.subfigures(2, 1, height_ratios=(2.2, 1.5))
    left, right = above.subplots(1, 2, width_ratios=(1, 1.3))
    sizes = [scale.size for scale in here.scales]
    colours = [HIGHLIGHT if index == here.largest else NEUTRAL for index in range(len(sizes))]
    show_bars(left, sizes, here.responses.tolist(), colours, 'filters', 'mean response here')
    scale = here.scales[here.largest]
    title = f'mean response of the {scale.size} filters'
    mean = scale.response.mean(dim=0)
    add_colour_bar(show_map(right, mean, title, prediction.frame, prediction.image))
    mark_pixel(right, *prediction.seen_pixel(row, column))
    title = f'{scale.size} filters that respond most here, {scale.origin}'
    below.suptitle(title, fontsize=SMALL + 1)
    filters = scale.filters[here.channels]
    grid = below.subplots(1, len(here.channels), squeeze=False)[0]
    for axes, channel, kernel in zip(grid, here.channels, filters, strict=True):
        title = f'channel {channel}:\n{here.channel_responses[channel]:.2f}'
        shown = show_kernels(axes, kernel[None], title, limit=filters.abs().max().item())
    add_colour_bar(shown)

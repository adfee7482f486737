"""DMNet's context: the filters that it makes for an image, and their responses."""

from typing import NamedTuple

import torch
from torch import Tensor

from mmseg_ctx.visualization.panels import (
    NEUTRAL,
    Bars,
    Map,
    PixelAnswer,
    kernel_row,
    map_row,
    most_varied,
)

TITLE = 'DMNet: filters of several sizes, and the responses to them'
EXPLANATION = (
    'The response of a channel is the result of its filter after norm and activation, before the '
    '1×1 convolution that may mix the channels.\n'
    'Weights of filters are red where they are positive, and blue where they are negative.'
)
CHANNELS, PIXEL_CHANNELS = 3, 4
HIGHLIGHT = '#d95f02'
ORIGINS = dict(
    dynamic='made from the image', depthwise='learned', regular='learned, mean over inputs'
)


class Scale(NamedTuple):
    """What one branch computed."""

    size: str  # of the filters, 'k×k'
    origin: str  # where the filters come from
    filters: Tensor  # [C, k, k]; filters that read all channels are averaged over them
    response: Tensor  # [C, h, w], after filters, norm and activation, before the 1×1 fusion


def read_context(head, shown, prediction):
    """Return the :class:`Scale` of each branch."""
    scales, origin = [], ORIGINS[head.filter_type]
    for filters, response in zip(shown['filters'], shown['response'], strict=True):
        # Made from the image: [1, C, k, k]; learned: [C, 1, k, k], or [C, C, k, k].
        filters = filters[0] if head.filter_type == 'dynamic' else filters.mean(dim=1)
        size = f'{filters.size(1)}×{filters.size(1)}'
        scales.append(Scale(size, origin, filters.float().cpu(), response[0].float().cpu()))
    return scales


def panels(scales, prediction):
    """Return a row for each scale: mean response, and responses and filters of some channels."""
    mosaic = []
    for scale in scales:
        inside = prediction.inside(scale.response)
        channels = most_varied(inside, CHANNELS)
        titles = [f'channel {channel}' for channel in channels]
        side = f'{scale.size} filters,\n{scale.origin}'
        options = dict(prediction=prediction, limits=(0, inside[channels].max().item()))
        row = [
            Map('mean response', scale.response.mean(dim=0), prediction, side=side),
            *map_row(scale.response[channels], titles, **options),
            *kernel_row(scale.filters[channels], titles),
        ]
        mosaic.append(row)
    return mosaic


def at_pixel(scales, prediction, pixel):
    """Return the mean response of each scale at a pixel, and filters of the largest."""
    here = torch.stack([prediction.at(scale.response, pixel) for scale in scales])  # [scales, C]
    means = here.mean(dim=1)
    largest = means.argmax().item()
    size, origin, filters, response = scales[largest]
    sizes = [scale.size for scale in scales]
    colours = [HIGHLIGHT if index == largest else NEUTRAL for index in range(len(sizes))]
    bars = Bars('filters', sizes, means.tolist(), colours, 'mean response here')
    title = f'mean response of the {size} filters,\n{origin}'
    mean = Map(title, response.mean(dim=0), prediction, pixel=pixel)
    channels = here[largest].argsort(descending=True, stable=True)[:PIXEL_CHANNELS].tolist()
    titles = [f'channel {channel}:\n{here[largest, channel]:.2f}' for channel in channels]
    return PixelAnswer(
        f'The {size} filters respond most here: {means[largest]:.3f} in the mean of their '
        'channels.',
        ('filters', 'mean response here'),
        [list(each) for each in zip(sizes, means.tolist(), strict=True)],
        [2 * [bars] + 2 * [mean]] * 2 + [kernel_row(filters[channels], titles)],
    )

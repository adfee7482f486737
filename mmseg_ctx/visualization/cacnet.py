"""CaC-Net's context: the predicted kernels and their weights (the paper's Figure 4)."""

from typing import NamedTuple

from torch import Tensor

from mmseg_ctx.visualization.panels import Map, PixelAnswer, kernel_panel, most_varied

TITLE = 'CaC-Net: kernels weigh features'
EXPLANATION = (
    'The kernel of each channel gives it a weight W at each pixel. Where W is above 1, the channel '
    'is amplified; where it is below 1, the channel is damped.\n'
    'Features are shown as shares of their maximum.'
)
CHANNELS, PIXEL_CHANNELS = 8, 2
ORIGINS = dict(
    context='predicted from the image', pooled='from globally pooled features', fixed='learned'
)


class Weighting(NamedTuple):
    """What one context-adaptive convolution computed."""

    origin: str  # where the kernels come from
    limit: int  # the largest possible weight: W is the sum of a sigmoid for each dilation
    features: Tensor  # X, [C, h, w]
    weights: Tensor  # W of Eq. 2, [C, h, w]
    kernels: Tensor  # D of Eq. 1, [C, s, s]


def read_context(head, shown, prediction):
    """Return the :class:`Weighting` of each context-adaptive convolution."""
    names = 'features', 'weights', 'kernels'
    tensors = [[each[0].float().cpu() for each in shown[name]] for name in names]
    return [
        Weighting(ORIGINS[conv.kernel_source], len(conv.dilations), *each)
        for conv, *each in zip(head.context_convs, *tensors, strict=True)
    ]


def panels(modules, prediction):
    """Return features, weights, products and kernels of the channels whose weights vary most."""
    columns, inside = [], prediction.frame.inside

    def relative(values):
        return values / inside(values).abs().max().clamp(min=1e-12)

    for number, (origin, limit, features, weights, kernels) in enumerate(modules, start=1):
        channels = most_varied(inside(weights), max(1, CHANNELS // len(modules)))
        largest = kernels[channels].abs().max().item()

        for channel in channels:
            x, w, bar = features[channel], weights[channel], channel == channels[-1]
            sides = 'features X', 'weights W', 'X* = W · X', f'kernel,\n{origin}'
            sides = sides if channel == channels[0] else 4 * ('',)
            title, options = f'module {number}\nchannel {channel}', dict(over_image=False, bar=bar)
            column = [
                Map(title, relative(x), prediction, limits=(0, 1), side=sides[0], **options),
                Map('', w, prediction, limits=(0, limit), side=sides[1], **options),
                Map('', relative(w * x), prediction, limits=(0, 1), side=sides[2], **options),
                kernel_panel('', kernels[channel], largest, side=sides[3], bar=bar),
            ]
            columns.append(column)
    return [list(row) for row in zip(*columns, strict=True)]


def at_pixel(modules, prediction, row, column):
    """Return W at a pixel of the most and the least amplified channels, and their kernels."""
    sentences, table, mosaic = [], [], []
    for module, (_, limit, _, weights, kernels) in enumerate(modules, start=1):
        here = weights[(..., *prediction.cell(row, column, weights.shape[1:]))]  # [C]
        order = here.argsort(descending=True, stable=True).tolist()
        most, least = order[:PIXEL_CHANNELS], order[::-1][:PIXEL_CHANNELS]
        sentences.append(
            f'Module {module} amplifies channel {most[0]} most, W = {here[most[0]]:.2f}, '
            f'and channel {least[0]} least, W = {here[least[0]]:.2f}.'
        )
        for kind, channels in (('most', most), ('least', least)):
            table += [[module, kind, channel, here[channel].item()] for channel in channels]
        largest = kernels[most + least].abs().max().item()
        maps, shown = [], []
        for channel in most + least:
            options = dict(bar=channel == least[-1], side=f'module {module}' * (not maps))
            title = f'channel {channel}\nW = {here[channel]:.2f}'
            own = dict(over_image=False, limits=(0, limit), pixel=(row, column), **options)
            maps.append(Map(title, weights[channel], prediction, **own))
            shown.append(kernel_panel('', kernels[channel], largest, bar=options['bar']))
        mosaic += [maps, shown]
    columns = 'module', 'amplified', 'channel', 'W here'
    return PixelAnswer(' '.join(sentences), columns, table, mosaic)

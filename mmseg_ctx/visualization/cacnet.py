"""CaC-Net's context: the predicted kernels and their weights (the paper's Figure 4)."""

from typing import NamedTuple

from torch import Tensor

from mmseg_ctx.visualization.panels import PixelAnswer, kernel_row, map_row, most_varied

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
    arguments = ORIGINS[head.kernel_source], len(head.dilations)
    return [Weighting(*arguments, *each) for each in zip(*tensors, strict=True)]


def panels(modules, prediction):
    """Return features, weights, products and kernels of the channels whose weights vary most."""
    mosaic = [[] for _ in range(4)]

    def relative(maps):
        largest = prediction.inside(maps).abs().amax(dim=(1, 2), keepdim=True)
        return maps / largest.clamp(min=1e-12)

    for number, (origin, limit, *tensors) in enumerate(modules, start=1):
        count = max(1, CHANNELS // len(modules))
        channels = most_varied(prediction.inside(tensors[1]), count)
        x, w, kernels = (tensor[channels] for tensor in tensors)
        titles = [f'module {number}\nchannel {channel}' for channel in channels]
        rows = (
            map_row(relative(x), titles, 'features X', prediction=prediction, limits=(0, 1)),
            map_row(w, side='weights W', prediction=prediction, limits=(0, limit)),
            map_row(relative(w * x), side='X* = W · X', prediction=prediction, limits=(0, 1)),
            kernel_row(kernels, side=f'kernel,\n{origin}'),
        )
        for line, row in zip(mosaic, rows, strict=True):
            line += row
    return mosaic


def at_pixel(modules, prediction, pixel):
    """Return W at a pixel of the most and the least amplified channels, and their kernels."""
    sentences, table, mosaic = [], [], []
    for module, (_, limit, _, weights, kernels) in enumerate(modules, start=1):
        here = prediction.at(weights, pixel)  # [C]
        order = here.argsort(descending=True, stable=True).tolist()
        most, least = order[:PIXEL_CHANNELS], order[::-1][:PIXEL_CHANNELS]
        sentences.append(
            f'Module {module} amplifies channel {most[0]} most, W = {here[most[0]]:.2f}, '
            f'and channel {least[0]} least, W = {here[least[0]]:.2f}.'
        )
        for kind, channels in (('most', most), ('least', least)):
            table += [[module, kind, channel, here[channel].item()] for channel in channels]
        channels = most + least
        titles = [f'channel {channel}\nW = {here[channel]:.2f}' for channel in channels]
        options = dict(prediction=prediction, limits=(0, limit), pixel=pixel)
        mosaic += [
            map_row(weights[channels], titles, f'module {module}', **options),
            kernel_row(kernels[channels]),
        ]
    columns = 'module', 'amplified', 'channel', 'W here'
    return PixelAnswer(' '.join(sentences), columns, table, mosaic)

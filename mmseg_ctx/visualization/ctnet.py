"""CTNet's context: the classes it predicts for an image, and where pixels attend to them."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from mmseg_ctx.visualization.panels import NEUTRAL, Bars, Map, PixelAnswer, in_rows

TITLE = 'CTNet: expected classes, and what pixels attend to'
EXPLANATION = (
    'The whole image has one probability for each class. In spatial context each pixel divides '
    'its attention among N vectors; its shares add up to 1.\n'
    'A vector that stands for a class has the name of the class. Without its loss, the class '
    'probabilities are not trained, and not shown.'
)
BARS, MAPS = 12, 6


class ClassAttention(NamedTuple):
    """What the head computed for one image.

    The class probability loss trains entry n of ``probabilities`` to be the probability of class n.
    In the mode ``'tandem'``, vector n is made from that entry, so with the loss it stands for class
    n and has its name. In all other cases the vectors stand for no classes. In the mode
    ``'channel'`` there is no attention.
    """

    probabilities: Tensor | None  # P_p, [N]; None where no loss trains it
    attention: Tensor | None  # to each of the N vectors (Eq. 6), [N, h, w]; None without any
    vectors: Sequence  # the names of the vectors
    vectors_are_classes: bool  # whether vector n stands for class n


def read_context(head, shown, prediction):
    """Return the :class:`ClassAttention`."""
    loss = head.loss_class_probability
    supervised = loss is not None and loss.loss_weight > 0
    probabilities = shown['class_probabilities'][0][0].cpu() if supervised else None
    attention = shown['attention'][0][0].cpu() if 'attention' in shown else None
    are_classes = supervised and head.mode == 'tandem'
    count = 0 if attention is None else len(attention)
    vectors = [f'vector {index}' for index in range(count)]
    vectors = prediction.classes[:count] if are_classes else vectors
    return ClassAttention(probabilities, attention, vectors, are_classes)


def panels(context, prediction):
    """Return the class probabilities, and the attention to some vectors.

    Where the vectors stand for classes, these are the most probable classes; otherwise, the vectors
    that get most attention.
    """
    bars, maps = _probabilities(context, prediction), []
    if context.attention is None:
        return [[bars]]
    mean = prediction.inside(context.attention).mean(dim=(1, 2))  # [N]
    scores = context.probabilities if context.vectors_are_classes else mean
    bars = bars or _shares(context, mean, prediction, 'mean attention')
    for index in scores.argsort(descending=True)[:MAPS].tolist():
        values, title = context.attention[index], f'attention: {context.vectors[index]}'
        limits = 0, prediction.inside(values).max().item()
        maps.append(Map(title, values, prediction, limits=limits))
    return [[bars, *row] for row in in_rows(maps, -(-len(maps) // 2))]


def _probabilities(context, prediction):
    if context.probabilities is None:
        return None
    present = set() if prediction.label is None else set(prediction.label.ravel().tolist())
    names = [
        f'{name} ●' if index in present else name for index, name in enumerate(prediction.classes)
    ]
    unit = 'probability' + ('\n(● in the ground truth)' if present else '')
    colours = prediction.colours(slice(None))
    return _largest('class probabilities', context.probabilities, names, colours, unit)


def _shares(context, shares, prediction, title):
    """Return the shares of attention ``[N]`` of the vectors that get most."""
    colours = prediction.colours(slice(None)) if context.vectors_are_classes else None
    return _largest(title, shares, context.vectors, colours, 'share of attention')


def _largest(title, values, names, colours, unit):
    order = values.argsort(descending=True)[:BARS].tolist()
    colours = NEUTRAL if colours is None else colours[order]
    return Bars(title, [names[index] for index in order], values[order].tolist(), colours, unit)


def at_pixel(context, prediction, pixel):
    """Return a pixel's attention to each vector beside the probability of each class."""
    mosaic, shares, probabilities = [], {}, {}
    sentence = 'This head has no spatial context: all pixels share the class probabilities.'
    if context.attention is not None:
        here = prediction.at(context.attention, pixel)
        shares = dict(zip(context.vectors, here.tolist(), strict=True))
        most = here.argmax().item()
        sentence = f'This pixel attends most to {context.vectors[most]}: {here[most]:.1%}.'
        mosaic.append(_shares(context, here, prediction, 'attention of this pixel'))
    if context.probabilities is not None:
        # There may be names of more classes.
        probabilities = dict(zip(prediction.classes, context.probabilities.tolist(), strict=False))
        mosaic.append(_probabilities(context, prediction))
    rows = [[name, shares.get(name), probabilities.get(name)] for name in shares | probabilities]
    rows.sort(key=lambda row: -max(row[1] or 0, row[2] or 0))
    columns = 'class or vector', 'attention here', 'probability in the image'
    return PixelAnswer(sentence, columns, rows, [mosaic])

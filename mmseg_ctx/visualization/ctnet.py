"""CTNet's context: the classes it predicts for an image, and where pixels attend to them."""

from typing import NamedTuple

from torch import Tensor

from mmseg_ctx.visualization.panels import NEUTRAL, PixelTable, add_colour_bar, show_bars, show_map

TITLE = 'CTNet: expected classes, and what pixels attend to'
EXPLANATION = (
    'The class probabilities are those of the whole image. In spatial context each pixel divides '
    'its attention among N vectors; its shares add up to 1.\n'
    'A vector that stands for a class has the name of the class.'
)
BARS, MAPS = 12, 6
HEIGHT = 4.6
NO_CONTEXT = 'Nothing to show: without its loss the class\nprobabilities are not trained.'


class ClassAttention(NamedTuple):
    """What the head computed for one image.

    The class probability loss trains entry n of ``probabilities`` to be the probability of class n.
    In the mode ``'tandem'``, vector n is made from that entry, so with the loss it stands for class
    n and has its name. In all other cases the vectors stand for no classes.

    Attributes:
        probabilities (Tensor | None): P_p, ``[N]``; None where no loss trains it.
        attention (Tensor | None): How much each pixel attends to each of the N vectors (Eq. 6),
            ``[N, h, w]``; None in the mode ``'channel'``, which has no spatial context.
        vectors (list[str]): The names of the vectors.
        vectors_are_classes (bool): Whether vector n stands for class n.
    """

    probabilities: Tensor | None
    attention: Tensor | None
    vectors: list
    vectors_are_classes: bool


def read_context(head, shown, prediction):
    """Return the :class:`ClassAttention`."""
    loss = head.loss_class_probability
    supervised = loss is not None and loss.loss_weight > 0
    probabilities = shown['class_probabilities'][0][0].cpu() if supervised else None
    if 'attention' not in shown:
        return ClassAttention(probabilities, None, [], False)
    attention = shown['attention'][0][0].cpu()
    if supervised and head.mode == 'tandem':
        names = list(prediction.classes[: len(attention)])
        return ClassAttention(probabilities, attention, names, True)
    vectors = [f'vector {index}' for index in range(len(attention))]
    return ClassAttention(probabilities, attention, vectors, False)


def draw(figure, context, prediction):
    """Draw the class probabilities, and the attention to some vectors.

    Where the vectors stand for classes, these are the most probable classes; otherwise, the vectors
    that get most attention.
    """
    left, right = figure.subfigures(1, 2, width_ratios=(1, 2), wspace=0.02)
    if context.attention is not None:
        mean = prediction.frame.inside(context.attention).mean(dim=(1, 2))  # [N]
        scores = context.probabilities if context.vectors_are_classes else mean
        _draw_attention(right, _largest(scores, MAPS), context, prediction)
    if context.probabilities is not None:
        _draw_probabilities(left.subplots(), context.probabilities, prediction)
    elif context.attention is not None:
        _draw_shares(
            left.subplots(), context, mean, prediction, 'mean attention', 'share of attention'
        )
    else:
        left.text(0.5, 0.5, NO_CONTEXT, ha='center', va='center')


def _largest(scores, count):
    return scores.argsort(descending=True)[:count].tolist()


def _draw_probabilities(axes, probabilities, prediction):
    order = _largest(probabilities, BARS)
    present = set() if prediction.label is None else set(prediction.label.ravel().tolist())
    show_bars(
        axes,
        [f'{prediction.classes[index]}{" ●" if index in present else ""}' for index in order],
        probabilities[order].tolist(),
        [prediction.colour(index) for index in order],
        'class probabilities',
        'probability' + ('\n(● in the ground truth)' if present else ''),
    )


def _draw_shares(axes, context, shares, prediction, title, unit):
    """Draw the shares of attention ``[N]`` of the vectors that get most."""
    order = _largest(shares, BARS)
    names = [context.vectors[index] for index in order]
    colours = [prediction.colour(i) if context.vectors_are_classes else NEUTRAL for i in order]
    show_bars(axes, names, shares[order].tolist(), colours, title, unit)


def _draw_attention(figure, order, context, prediction):
    grid = figure.subplots(2, -(-len(order) // 2), squeeze=False)
    for axes in grid.ravel()[len(order) :]:
        axes.set_axis_off()
    for axes, index in zip(grid.ravel(), order, strict=False):
        shares = context.attention[index]
        limits = 0, prediction.frame.inside(shares).max().item()
        title = f'share of attention: {context.vectors[index]}'
        add_colour_bar(show_map(axes, shares, title, prediction.frame, prediction.image, limits))


def read_pixel(context, prediction, row, column):
    """Return the :class:`ClassAttention`, and the pixel's shares of attention, ``[N]`` or None."""
    if context.attention is None:
        return context, None
    cell = prediction.cell(row, column, context.attention.shape[1:])
    return context, context.attention[(..., *cell)]


def describe_pixel(here, prediction):
    """Return the pixel's attention to each vector, and the probability of each class."""
    context, attention = here
    shares = dict(
        zip(context.vectors, [] if attention is None else attention.tolist(), strict=True)
    )
    probabilities = {}
    if context.probabilities is not None:
        # There may be names of more classes.
        probabilities = dict(zip(prediction.classes, context.probabilities.tolist(), strict=False))
    rows = [[name, shares.get(name), probabilities.get(name)] for name in shares | probabilities]
    rows.sort(key=lambda row: -max(row[1] or 0, row[2] or 0))
    sentence = 'This head has no spatial context: all pixels share the class probabilities.'
    if attention is not None:
        most = attention.argmax().item()
        sentence = f'This pixel attends most to {context.vectors[most]}: {attention[most]:.1%}.'
    return PixelTable(
        sentence, ('class or vector', 'attention here', 'probability in the image'), rows
    )


def draw_pixel(figure, here, prediction, row, column):
    """Draw the shares of attention beside the class probabilities."""
    figure.set_figheight(3.0)
    context, attention = here
    if attention is None and context.probabilities is None:
        figure.text(0.5, 0.5, NO_CONTEXT, ha='center', va='center')
        return
    left, right = figure.subplots(1, 2)
    if attention is None:
        left.set_axis_off()
    else:
        _draw_shares(left, context, attention, prediction, 'attention of this pixel', 'share')
    if context.probabilities is None:
        right.set_axis_off()
    else:
        _draw_probabilities(right, context.probabilities, prediction)

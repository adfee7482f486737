"""CTNet's context: the classes it predicts for an image, and where pixels attend to them."""

from typing import NamedTuple

from torch import Tensor

from mmseg_ctx.ops import at_least_float32
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
    n. In all other cases the vectors stand for no classes.

    Attributes:
        probabilities (Tensor | None): P_p, ``[N]``; None where no loss trains it.
        attention (Tensor | None): How much each pixel attends to each of the N vectors (Eq. 6),
            ``[N, h, w]``; None in the mode ``'channel'``, which has no spatial context.
        vectors_are_classes (bool): Whether vector n stands for class n.
    """

    probabilities: Tensor | None
    attention: Tensor | None
    vectors_are_classes: bool

    def vector_names(self, classes):
        """Return a name for each of the vectors."""
        if self.vectors_are_classes:
            return list(classes)
        return [f'vector {index}' for index in range(len(classes))]


def recorded_modules(head):
    """Return the modules to record by name: channel context, and query and key of the attention.

    The ``mode`` of the head decides which of them there are.
    """
    modules = {}
    if head.mode != 'spatial':
        modules['channel_context'] = head.channel_context
    if head.mode != 'channel':
        modules['query'] = head.spatial_context.query
        modules['key'] = head.spatial_context.key
    return modules


def read_context(head, records, scene):
    """Return what the head computed for one image.

    Args:
        head (ContextTandemHead): The head.
        records (dict[str, Record]): What the modules of :func:`recorded_modules` computed.
        scene (Prediction): The image.

    Returns:
        ClassAttention: The probabilities and the attention.
    """
    loss = head.loss_class_probability
    supervised = loss is not None and loss.loss_weight > 0
    probabilities = None
    if supervised:
        _, probabilities, _ = records['channel_context'].output  # P_p: [1, N]
        probabilities = probabilities[0].cpu()
    return ClassAttention(
        probabilities,
        _attention(head, records) if 'query' in records else None,
        supervised and head.mode == 'tandem',
    )


def _attention(head, records):
    query, key = records['query'].output[0], records['key'].output[0]  # [C/s, h, w], [C/s, N, 1]
    energy = (
        head.spatial_context.scale
        * at_least_float32(key).squeeze(2).T
        @ at_least_float32(query).flatten(1)
    )
    return energy.softmax(dim=0).unflatten(1, query.shape[1:]).cpu()  # [N, h, w]


def draw(figure, context, scene):
    """Draw the class probabilities, and the attention to some vectors.

    Where the vectors stand for classes, these are the most probable classes; otherwise, the vectors
    that get most attention.

    Args:
        figure (matplotlib.figure.SubFigure): The figure to draw in.
        context (ClassAttention): See :func:`read_context`.
        scene (Prediction): The image.
    """
    left, right = figure.subfigures(1, 2, width_ratios=(1, 2), wspace=0.02)
    names = context.vector_names(scene.classes)
    if context.attention is not None:
        mean = scene.frame.inside(context.attention).mean(dim=(1, 2))  # [N]
        scores = context.probabilities if context.vectors_are_classes else mean
        _draw_attention(right, _largest(scores, MAPS), names, context.attention, scene)
    if context.probabilities is not None:
        _draw_probabilities(left.subplots(), context.probabilities, scene)
    elif context.attention is not None:
        order = _largest(mean, BARS)
        shown = [names[index] for index in order], mean[order].tolist()
        show_bars(
            left.subplots(), *shown, [NEUTRAL] * len(order), 'mean attention', 'share of attention'
        )
    else:
        left.text(0.5, 0.5, NO_CONTEXT, ha='center', va='center')


def _largest(scores, count):
    return scores.argsort(descending=True)[:count].tolist()


def _draw_probabilities(axes, probabilities, scene):
    order = _largest(probabilities, BARS)
    present = set() if scene.label is None else set(scene.label.ravel().tolist())
    show_bars(
        axes,
        [f'{scene.classes[index]}{" ●" if index in present else ""}' for index in order],
        probabilities[order].tolist(),
        [scene.colour(index) for index in order],
        'class probabilities',
        'probability' + ('\n(● in the ground truth)' if present else ''),
    )


def _draw_attention(figure, order, names, attention, scene):
    grid = figure.subplots(2, -(-len(order) // 2), squeeze=False)
    for axes in grid.ravel()[len(order) :]:
        axes.set_axis_off()
    for axes, index in zip(grid.ravel(), order, strict=False):
        limits = 0, scene.frame.inside(attention[index]).max().item()
        title = f'share of attention: {names[index]}'
        add_colour_bar(show_map(axes, attention[index], title, scene.frame, scene.image, limits))


class AttentionHere(NamedTuple):
    """What one pixel attends to.

    Attributes:
        context (ClassAttention): See :func:`read_context`.
        attention (Tensor | None): Its shares of attention ``[N]``, read at the cell of the feature
            map that covers the pixel; None without spatial context.
    """

    context: ClassAttention
    attention: Tensor | None


def read_pixel(context, scene, row, column):
    """Return the :class:`AttentionHere` of a pixel of the original image."""
    if context.attention is None:
        return AttentionHere(context, None)
    cell = scene.cell(row, column, context.attention.shape[1:])
    return AttentionHere(context, context.attention[(slice(None), *cell)])


def describe_pixel(here, scene):
    """Return them as a :class:`~mmseg_ctx.visualization.panels.PixelTable`."""
    context, names = here.context, here.context.vector_names(scene.classes)
    columns = ('class or vector', 'attention here', 'probability in the image')
    attention = [None] * len(names) if here.attention is None else here.attention.tolist()
    absent = context.probabilities is None
    probabilities = [None] * len(names) if absent else context.probabilities.tolist()
    if context.vectors_are_classes:
        rows = list(zip(names, attention, probabilities, strict=True))
    else:
        rows = [
            (name, None, value) for name, value in zip(scene.classes, probabilities, strict=True)
        ]
        rows += [(name, value, None) for name, value in zip(names, attention, strict=True)]
        rows = [row for row in rows if row[1:] != (None, None)]
    rows = sorted(map(list, rows), key=lambda row: -max(row[1] or 0, row[2] or 0))
    if here.attention is None:
        sentence = 'This head has no spatial context: all pixels share the class probabilities.'
    else:
        most = here.attention.argmax().item()
        sentence = f'This pixel attends most to {names[most]}: {here.attention[most]:.1%}.'
    return PixelTable(sentence, columns, rows)


def pixel_height(here):
    """Return how many inches high the drawing about a pixel is."""
    return 3.0


def draw_pixel(figure, here, scene, row, column):
    """Draw the shares of attention beside the class probabilities."""
    context = here.context
    if here.attention is None and context.probabilities is None:
        figure.text(0.5, 0.5, NO_CONTEXT, ha='center', va='center')
        return
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        axes.set_axis_off()
    if here.attention is not None:
        names = context.vector_names(scene.classes)
        order = _largest(here.attention, BARS)
        colours = [
            scene.colour(index) if context.vectors_are_classes else NEUTRAL for index in order
        ]
        left.set_axis_on()
        shown = [names[index] for index in order], here.attention[order].tolist()
        show_bars(left, *shown, colours, 'attention of this pixel', 'share')
    if context.probabilities is not None:
        right.set_axis_on()
        _draw_probabilities(right, context.probabilities, scene)

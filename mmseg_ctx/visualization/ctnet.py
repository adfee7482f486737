"""CTNet's context: the classes it expects in an image, and where it attends to them."""

from typing import NamedTuple

from torch import Tensor

from mmseg_ctx.ops import widen
from mmseg_ctx.visualization.panels import NEUTRAL, add_colour_bar, show_bars, show_map

TITLE = 'CTNet: expected classes guide attention'
EXPLANATION = (
    'The class probabilities are those of the whole image. Each pixel attends to N vectors in '
    'shares that add up to 1; a vector that stands for a class has its name.'
)
BARS, MAPS = 12, 6
HEIGHT = 4.6
NO_CONTEXT = 'Nothing to show: without its loss the class\nprobabilities are not trained.'


class ClassAttention(NamedTuple):
    """What the head computed for one image, as far as its ``mode`` has it.

    Entry n of ``probabilities`` stands for class n because the class probability loss ties it to
    the class. The vector n that pixels attend to stands for class n where it is made from that
    entry, so in the mode ``'tandem'`` with the loss. Otherwise a vector belongs to no class.

    Attributes:
        probabilities (Tensor | None): P_p, ``[N]``; None where the loss does not train it.
        attention (Tensor | None): How much each place attends to each of the N vectors (Eq. 6),
            ``[N, h, w]``; None without spatial context.
        vectors_are_classes (bool): Whether vector n stands for class n.
    """

    probabilities: Tensor | None
    attention: Tensor | None
    vectors_are_classes: bool

    def vector_names(self, classes):
        """Return what to call each of the vectors that pixels attend to."""
        if self.vectors_are_classes:
            return list(classes)
        return [f'vector {index}' for index in range(len(classes))]


def recorded_modules(head):
    """Return the modules to record by name: channel context, and spatial context's query and key.

    Which of them a head has is a matter of its ``mode``.
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
        records (dict): See :func:`mmseg_ctx.visualization.scene.recording`.
        scene (Scene): The image.

    Returns:
        ClassAttention: The probabilities and the attention.
    """
    loss = head.loss_class_probability
    supervised = loss is not None and loss.loss_weight > 0
    return ClassAttention(
        records['channel_context'][1][1][0].cpu() if supervised else None,
        _attention(head, records) if 'query' in records else None,
        supervised and head.mode == 'tandem',
    )


def _attention(head, records):
    query, key = records['query'][1][0], records['key'][1][0]  # [C/s, h, w], [C/s, N, 1]
    energy = head.spatial_context.scale * widen(key).squeeze(2).T @ widen(query).flatten(1)
    return energy.softmax(dim=0).unflatten(1, query.shape[1:]).cpu()  # [N, h, w]


def draw(figure, context, scene):
    """Draw the class probabilities, and the attention to the vectors that matter most.

    Where the vectors stand for classes these are the most probable ones, else those that get most
    attention.

    Args:
        figure (matplotlib.figure.SubFigure): Where.
        context (ClassAttention): See :func:`read_context`.
        scene (Scene): The image.
    """
    left, right = figure.subfigures(1, 2, width_ratios=(1, 2), wspace=0.02)
    names = context.vector_names(scene.classes)
    if context.attention is not None:
        mean = scene.frame.inside(context.attention).mean(dim=(1, 2))  # [N]
        scores = context.probabilities if context.vectors_are_classes else mean
        _draw_attention(right, _largest(scores, MAPS), names, context.attention, scene)
    if context.probabilities is not None:
        _draw_probabilities(left, context.probabilities, scene)
    elif context.attention is not None:
        order = _largest(mean, BARS)
        shown = [names[index] for index in order], mean[order].tolist()
        show_bars(left.subplots(), *shown, [NEUTRAL] * len(order), 'mean attention', 'attention')
    else:
        left.text(0.5, 0.5, NO_CONTEXT, ha='center', va='center')


def _largest(scores, count):
    return scores.argsort(descending=True)[:count].tolist()


def _draw_probabilities(figure, probabilities, scene):
    order = _largest(probabilities, BARS)
    present = set() if scene.label is None else set(scene.label.ravel().tolist())
    show_bars(
        figure.subplots(),
        [f'{scene.classes[index]}{" ●" if index in present else ""}' for index in order],
        probabilities[order].tolist(),
        [scene.colour(index) for index in order],
        'class probabilities' + (' (● in the ground truth)' if present else ''),
        'probability',
    )


def _draw_attention(figure, order, names, attention, scene):
    grid = figure.subplots(2, -(-len(order) // 2), squeeze=False)
    for axes in grid.ravel()[len(order) :]:
        axes.set_axis_off()
    for axes, index in zip(grid.ravel(), order, strict=False):
        limits = 0, scene.frame.inside(attention[index]).max().item()
        title = f'share of attention: {names[index]}'
        add_colour_bar(show_map(axes, attention[index], title, scene.frame, scene.image, limits))

"""CTNet's context: the classes it expects in an image, and where it attends to them."""

from mmseg_ctx.ops import widen
from mmseg_ctx.visualization.panels import add_colour_bar, show_bars, show_map

BARS, MAPS = 12, 6
HEIGHT = 4.6


def modules(head):
    """Return the modules to record by name: channel context, and spatial context's query and key.

    Which of them a head has is a matter of its ``mode``.
    """
    found = {}
    if head.mode != 'spatial':
        found['channel_context'] = head.channel_context
    if head.mode != 'channel':
        found['query'] = head.spatial_context.query
        found['key'] = head.spatial_context.key
    return found


def draw(figure, head, records, scene):
    """Draw the class probabilities, and the attention of the most probable classes.

    Args:
        figure (matplotlib.figure.SubFigure): Where.
        head (ContextTandemHead): The head.
        records (dict): See :func:`mmseg_ctx.visualization.scene.recording`.
        scene (Scene): The image.
    """
    attention = _attention(head, records) if 'query' in records else None  # [N, h, w]
    if 'channel_context' in records:
        scores = records['channel_context'][1][1][0].cpu()  # P_p, [N]
    else:
        scores = attention.mean(dim=(1, 2))
    order = scores.argsort(descending=True).tolist()
    left, right = figure.subfigures(1, 2, width_ratios=(1, 2), wspace=0.02)
    _draw_probabilities(left, order[:BARS], scores, scene, 'channel_context' in records)
    if attention is not None:
        _draw_attention(right, order[:MAPS], attention, scene)


def _attention(head, records):
    """Return how much each pixel attends to each class (Eq. 6), ``[N, h, w]``."""
    query, key = records['query'][1][0], records['key'][1][0]  # [C/s, h, w], [C/s, N, 1]
    energy = head.spatial_context.scale * key.squeeze(2).T @ query.flatten(1)  # [N, h * w]
    return widen(energy).softmax(dim=0).unflatten(1, query.shape[1:]).cpu()


def _draw_probabilities(figure, order, scores, scene, are_probabilities):
    present = set() if scene.label is None else set(scene.label.ravel().tolist())
    names = [f'{scene.classes[index]}{" ●" if index in present else ""}' for index in order]
    title = 'class probabilities' if are_probabilities else 'mean attention'
    show_bars(
        figure.subplots(),
        names,
        scores[order].tolist(),
        [scene.colour(index) for index in order],
        title + (' (● in the ground truth)' if present else ''),
        'probability' if are_probabilities else 'attention',
    )


def _draw_attention(figure, order, attention, scene):
    grid = figure.subplots(2, -(-len(order) // 2), squeeze=False)
    for axes in grid.ravel()[len(order) :]:
        axes.set_axis_off()
    for axes, index in zip(grid.ravel(), order, strict=False):
        title = f'share of attention: {scene.classes[index]}'
        limits = 0, attention[index].max().item()
        add_colour_bar(show_map(axes, attention[index], title, scene.image, limits))

"""The context-aware classifier's context: what its rewritten weights change (Figure 7)."""

from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.lines import Line2D
from torch import nn

from mmseg_ctx.visualization.panels import (
    SMALL,
    changes_legend,
    resize_nearest,
    show_bars,
    show_changes,
    show_label,
)
from mmseg_ctx.visualization.sheet import IGNORED

BARS, PIXELS = 12, 600
HEIGHT = 7.6


@contextmanager
def with_dropout(head):
    """Give a head that drops nothing a module in its dropout's place, which reads the features.

    No other module reads them in every head: with cosines for the prior's logits ``conv_seg`` is
    not called.
    """
    dropout = head.dropout
    if dropout is None:
        head.dropout = nn.Identity()
    try:
        yield
    finally:
        head.dropout = dropout


def modules(head):
    """Return the modules to record by name: what reads the features, and the projector.

    It needs :func:`with_dropout`.
    """
    return dict(features=head.dropout, projector=head.estimate_projector)


def draw(figure, head, records, scene):
    """Draw the classifiers' predictions, how far the weights moved, and where they went.

    Args:
        figure (matplotlib.figure.SubFigure): Where.
        head (ContextAwareClassifierHead): The head.
        records (dict): See :func:`mmseg_ctx.visualization.scene.recording`.
        scene (Scene): The image.
    """
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.5))
    _draw_predictions(above, scene)
    original = head.classifier_weight  # C, [N, d]
    weights = head.rewritten_weight(records['projector'][1])[0]  # A, [N, d]
    original, weights = original.float().cpu(), weights.float().cpu()
    left, right = below.subplots(1, 2, width_ratios=(1, 1.4))
    _draw_moves(left, original, weights, scene)
    features = records['features'][0][0][0].float().cpu()  # [d, h, w]
    _draw_embedding(right, features, original, weights, scene)


def _draw_predictions(figure, scene):
    """Prior, refined and oracle predictions, and what changes from one to the other."""
    predictions = dict(prior=scene.predict('prior'), refined=scene.prediction)
    changes = [('prior', 'refined')]
    if scene.label is not None:
        predictions['oracle'] = scene.predict('oracle')
        changes.append(('refined', 'oracle'))
    grid = figure.subplots(1, len(predictions) + len(changes))
    for axes, (name, prediction) in zip(grid, predictions.items(), strict=False):
        show_label(axes, prediction, scene.palette, f'{name}{_accuracy(prediction, scene.label)}')
    for axes, (before, after) in zip(grid[len(predictions) :], changes, strict=True):
        show_changes(
            axes, predictions[before], predictions[after], scene.label, f'{before} → {after}'
        )
    handles = changes_legend(scene.label is not None)
    figure.legend(
        handles=handles,
        loc='outside lower right',
        ncols=len(handles),
        fontsize=SMALL,
        frameon=False,
    )


def _accuracy(prediction, label):
    if label is None or (label == IGNORED).all():
        return ''
    return f', {(prediction == label)[label != IGNORED].mean():.1%} right'


def _draw_moves(axes, original, weights, scene):
    distance = 1 - F.cosine_similarity(original, weights, dim=1)  # [N]
    shown = _shown_classes(scene)
    order = sorted(shown, key=lambda index: -distance[index])[:BARS]
    show_bars(
        axes,
        [scene.classes[index] for index in order],
        distance[order].tolist(),
        [scene.colour(index) for index in order],
        'how far each class’s weights moved',
        '1 − cosine of original and context-aware weights',
    )


def _shown_classes(scene):
    """Return the classes of the image: those predicted and those of the label."""
    maps = [scene.prediction] if scene.label is None else [scene.prediction, scene.label]
    found = np.unique(np.concatenate([each.ravel() for each in maps]))
    return [index for index in found.tolist() if index < len(scene.classes)]


def _draw_embedding(axes, features, original, weights, scene):
    """Features (dots), original weights (circles), context-aware weights (stars), by t-SNE."""
    from sklearn.manifold import TSNE

    shown = _shown_classes(scene)
    label = torch.from_numpy(scene.prediction if scene.label is None else scene.label)
    label = resize_nearest(label, features.shape[1:]).flatten()  # [h * w]
    chosen = torch.isin(label, torch.tensor(shown)).nonzero().flatten()
    chosen = chosen[torch.linspace(0, len(chosen) - 1, min(PIXELS, len(chosen))).long()]
    pixels = features.flatten(1).T[chosen]  # [n, d]
    # A cosine tells classes apart, so lengths are left out.
    vectors = F.normalize(torch.cat([pixels, original[shown], weights[shown]]), dim=1).numpy()
    perplexity = min(30, (len(vectors) - 1) / 3)
    places = TSNE(perplexity=perplexity, init='pca', random_state=0).fit_transform(vectors)
    dots, circles, stars = np.split(places, [len(chosen), len(chosen) + len(shown)])
    axes.scatter(*dots.T, s=12, c=[scene.colour(i) for i in label[chosen]], linewidths=0)
    style = dict(c=[scene.colour(index) for index in shown], edgecolors='black', zorder=3)
    axes.scatter(*circles.T, s=80, marker='o', linewidths=0.8, **style)
    axes.scatter(*stars.T, s=150, marker='*', linewidths=0.8, **style)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title('features and weights in two dimensions (t-SNE)', fontsize=SMALL + 1)
    kinds = [('.', 'feature of a pixel'), ('o', 'original weights'), ('*', 'context-aware weights')]
    handles = [
        Line2D([], [], ls='', marker=marker, color='white', markeredgecolor='black', label=name)
        for marker, name in kinds
    ]
    axes.legend(
        handles=handles,
        fontsize=SMALL,
        loc='upper left',
        bbox_to_anchor=(0, -0.01),
        ncols=3,
        frameon=False,
    )

"""CAC's context: what the rewritten weights change (the paper's Figure 7)."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.lines import Line2D
from torch import Tensor

from mmseg_ctx.ops import predicted_labels, resize_labels
from mmseg_ctx.ops.labels import IGNORED
from mmseg_ctx.visualization.labels import classes_in
from mmseg_ctx.visualization.panels import (
    SMALL,
    PixelTable,
    changes_legend,
    show_bars,
    show_changes,
    show_label,
)

TITLE = 'CAC: a classifier rewritten for the image'
EXPLANATION = (
    'The prior is the head’s own classifier. Its prediction rewrites the weights of each class: '
    'refined. The oracle is rewritten from the ground truth instead.'
)
BARS, PIXELS = 12, 600
PIXEL_BARS = 8
HEIGHT = 7.6


class Classifiers(NamedTuple):
    """What the classifiers of a head computed for one image.

    Attributes:
        features (Tensor): f, ``[d, h, w]``.
        logits (dict[str, Tensor]): Logits ``[N, h, w]`` of ``'prior'``, ``'refined'`` and, where
            there is a label, ``'oracle'``.
        predictions (dict[str, np.ndarray]): The classes ``[H, W]`` that each of them predicts.
        original (Tensor): C, the weights of the head's own classifier, ``[N, d]``.
        rewritten (Tensor): A, the weights that classify this image, ``[N, d]``.
        moves (Tensor): 1 − cosine of the original and the rewritten weights of each class, ``[N]``.
    """

    features: Tensor
    logits: dict
    predictions: dict
    original: Tensor
    rewritten: Tensor
    moves: Tensor


def read_context(head, shown, prediction):
    """Return the :class:`Classifiers`."""
    features = shown['features'][0]  # [1, d, h, w]
    logits = {name: shown[name][0] for name in ('prior', 'refined')}
    if prediction.label is not None:
        label = _at_feature_size(prediction.label, prediction, features.shape[2:])[None]
        label = label.to(features.device)
        logits['oracle'] = head.conv_seg.oracle_logits(features, label, 'image')
    logits = {name: each[0].float().cpu() for name, each in logits.items()}
    predictions = {
        name: predicted_labels(prediction.resize(each))[0].numpy() for name, each in logits.items()
    }
    predictions['refined'] = prediction.predicted
    rewritten = shown['classifier'][0][0].float().cpu()
    original = head.conv_seg.weight.detach().flatten(1).float().cpu()
    moves = 1 - F.cosine_similarity(original, rewritten, dim=1)
    features = features[0].float().cpu()
    return Classifiers(features, logits, predictions, original, rewritten, moves)


def _at_feature_size(label, prediction, size):
    """Return a label map ``[H, W]`` at the features' size ``[h, w]``, with -1 where ignored."""
    label = torch.from_numpy(np.where(label == IGNORED, -1, label))[None]
    (height, width), (bottom, right) = prediction.frame
    label = resize_labels(label, (height, width))
    return resize_labels(F.pad(label, (0, right - width, 0, bottom - height), value=-1), size)[0]


def draw(figure, classifiers, prediction):
    """Draw the classifiers' predictions, how far the weights moved, and the weights by t-SNE."""
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.5))
    _draw_predictions(above, classifiers.predictions, prediction)
    left, right = below.subplots(1, 2, width_ratios=(1, 1.4))
    shown = _shown_classes(classifiers, prediction)
    _draw_moves(left, classifiers, shown, prediction)
    _draw_embedding(right, classifiers, shown, prediction)


def label_maps(classifiers):
    """Return the label maps that :func:`draw` shows, for the legend of the sheet."""
    return list(classifiers.predictions.values())


def _draw_predictions(figure, predictions, prediction):
    changes = [('prior', 'refined')]
    if 'oracle' in predictions:
        changes.append(('refined', 'oracle'))
    grid = figure.subplots(1, len(predictions) + len(changes))
    for axes, (name, label) in zip(grid, predictions.items(), strict=False):
        show_label(axes, label, prediction.palette, f'{name}{_accuracy(label, prediction.label)}')
    for axes, (before, after) in zip(grid[len(predictions) :], changes, strict=True):
        show_changes(
            axes, predictions[before], predictions[after], prediction.label, f'{before} → {after}'
        )
    handles = changes_legend(prediction.label is not None)
    figure.legend(
        handles=handles,
        loc='outside lower right',
        ncols=len(handles),
        fontsize=SMALL,
        frameon=False,
    )


def _accuracy(predicted, label):
    if label is None or (label == IGNORED).all():
        return ''
    return f', {(predicted == label)[label != IGNORED].mean():.1%} right'


def _shown_classes(classifiers, prediction):
    """Return the classes in the label and the predictions, by number."""
    found = classes_in([prediction.label, *label_maps(classifiers)]).tolist()
    return [index for index in found if index < len(prediction.classes)]


def _draw_moves(axes, classifiers, shown, prediction):
    order = sorted(shown, key=lambda index: -classifiers.moves[index])[:BARS]
    show_bars(
        axes,
        [prediction.classes[index] for index in order],
        classifiers.moves[order].tolist(),
        [prediction.colour(index) for index in order],
        'how far each class’s weights moved',
        '1 − cosine of original and context-aware weights',
    )


def _draw_embedding(axes, classifiers, shown, prediction):
    """Draw features (dots), original weights (circles), rewritten weights (stars) by t-SNE."""
    from sklearn.manifold import TSNE

    features = classifiers.features  # [d, h, w]
    label = prediction.predicted if prediction.label is None else prediction.label
    label = _at_feature_size(label, prediction, features.shape[1:]).flatten()  # [h * w]
    chosen = torch.isin(label, torch.tensor(shown)).nonzero().flatten()
    chosen = chosen[torch.linspace(0, len(chosen) - 1, min(PIXELS, len(chosen))).long()]
    pixels = features.flatten(1).T[chosen]  # [n, d]
    # The classifier compares directions (by cosine), so lengths are left out.
    weights = classifiers.original[shown], classifiers.rewritten[shown]
    vectors = F.normalize(torch.cat([pixels, *weights]), dim=1).numpy()
    perplexity = min(30, (len(vectors) - 1) / 3)
    places = TSNE(perplexity=perplexity, init='pca', random_state=0).fit_transform(vectors)
    dots, circles, stars = np.split(places, [len(chosen), len(chosen) + len(shown)])
    axes.scatter(*dots.T, s=12, c=[prediction.colour(i) for i in label[chosen]], linewidths=0)
    style = dict(c=[prediction.colour(index) for index in shown], edgecolors='black', zorder=3)
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


def read_pixel(classifiers, prediction, row, column):
    """Return the logits ``[N]`` of each classifier at the pixel, by name, and the moves ``[N]``."""
    logits = {
        name: prediction.logits_at(each, row, column) for name, each in classifiers.logits.items()
    }
    return logits, classifiers.moves


def describe_pixel(here, prediction):
    """Return the logits at the pixel, and how far the weights of each class moved."""
    logits, moves = here
    said = [f'{name}: {prediction.classes[each.argmax()]}' for name, each in logits.items()]
    farthest = moves.argmax().item()
    return PixelTable(
        f'Class by {"; by ".join(said)}. Compare logits within one classifier only. In this image '
        f'the weights of {prediction.classes[farthest]} moved most: '
        f'1 − cosine = {moves[farthest]:.3f}.',
        ('class', *(f'logit by {name}' for name in logits), 'its weights moved'),
        [
            [prediction.classes[index], *(each[index].item() for each in (*logits.values(), moves))]
            for index in logits['refined'].argsort(descending=True).tolist()
        ],
    )


def draw_pixel(figure, here, prediction, row, column):
    """Draw the logits of the classes that the refined classifier prefers, and their moves."""
    figure.set_figheight(2.6)
    logits, moves = here
    order = logits['refined'].argsort(descending=True)[:PIXEL_BARS].tolist()
    names = [prediction.classes[index] for index in order]
    colours = [prediction.colour(index) for index in order]
    values = {**logits, 'weights moved': moves}
    grid = figure.subplots(1, len(values), sharey=True)
    for axes, (title, numbers) in zip(grid, values.items(), strict=True):
        unit = '1 − cosine' if numbers is moves else 'logit'
        show_bars(axes, names, numbers[order].tolist(), colours, title, unit)
        axes.locator_params(axis='x', nbins=2)
    # Each show_bars inverted the y axis, which all of these axes share.
    grid[0].set_ylim(len(order) - 0.5, -0.5)

"""CAC's context: what the rewritten weights change (the paper's Figure 7)."""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmseg_ctx.ops import predicted_labels, resize_labels
from mmseg_ctx.ops.labels import IGNORED
from mmseg_ctx.visualization.panels import SMALL, Bars, Picture, PixelAnswer, classes_in

TITLE = 'CAC: a classifier rewritten for the image'
EXPLANATION = (
    'The prior is the head’s own classifier. Its prediction rewrites the weights of each class: '
    'refined. The oracle is rewritten from the ground truth instead.'
)
BARS, PIXEL_BARS, FEATURES = 12, 8, 600
# Colours of pixels whose class stays, becomes another wrong one, becomes right, becomes wrong.
CHANGES = np.uint8([(238, 238, 238), (158, 121, 184), (26, 152, 80), (215, 48, 39)])


class Classifiers(NamedTuple):
    """What the classifiers of a head computed for one image.

    They are ``'prior'``, ``'refined'`` and, where there is a label, ``'oracle'``.
    """

    features: Tensor  # f, [d, h, w]
    logits: dict  # of each classifier, [N, h, w]
    predictions: dict  # the classes [H, W] that each of them predicts
    original: Tensor  # C, the weights of the head's own classifier, [N, d]
    rewritten: Tensor  # A, the weights that classify this image, [N, d]
    moves: Tensor  # 1 − cosine of original and rewritten weights of each class, [N]


def read_context(head, shown, prediction):
    """Return the :class:`Classifiers`."""
    features = shown['features'][0]  # [1, d, h, w]
    logits = {name: shown[name][0] for name in ('prior', 'refined')}
    if prediction.label is not None:
        label = _at_feature_size(prediction.label, prediction, features.shape[2:])[None]
        logits['oracle'] = head.conv_seg.oracle_logits(features, label.to(features.device), 'image')
    logits = {name: each[0].float().cpu() for name, each in logits.items()}
    predictions = {
        name: predicted_labels(prediction.resize(each))[0].numpy() for name, each in logits.items()
    }
    predictions['refined'] = prediction.predicted
    rewritten = shown['classifier'][0][0].float().cpu()
    original = head.conv_seg.weight.detach().flatten(1).float().cpu()
    moves = 1 - F.cosine_similarity(original, rewritten, dim=1)
    return Classifiers(features[0].float().cpu(), logits, predictions, original, rewritten, moves)


def _at_feature_size(label, prediction, size):
    """Return a label map ``[H, W]`` at the features' size ``[h, w]``, with -1 where ignored."""
    label = torch.from_numpy(np.where(label == IGNORED, -1, label))[None]
    height, width, _ = prediction.image.shape
    label = resize_labels(label, (height, width))
    below, right = prediction.padded_size[0] - height, prediction.padded_size[1] - width
    return resize_labels(F.pad(label, (0, right, 0, below), value=-1), size)[0]


def panels(classifiers, prediction):
    """Return the classifiers' predictions, how far the weights moved, and the weights by t-SNE."""
    predictions, label = classifiers.predictions, prediction.label
    first = []
    for name, predicted in predictions.items():
        right = ''
        if label is not None and (label != IGNORED).any():
            right = f', {(predicted == label)[label != IGNORED].mean():.1%} right'
        first.append(Picture(name + right, predicted, prediction.palette))
    for before, after in pairwise(predictions):
        maps = predictions[before], predictions[after]
        first.append(_changes(f'{before} → {after}', *maps, label))
    found = [index for index in classes_in([label, *predictions.values()]) if index != IGNORED]
    order = sorted(found, key=lambda index: -classifiers.moves[index])[:BARS]
    bars = Bars(
        'how far each class’s weights moved',
        [prediction.classes[index] for index in order],
        classifiers.moves[order].tolist(),
        prediction.colours(order),
        '1 − cosine of original and context-aware weights',
    )
    below = 2 * [bars] + (len(first) - 2) * [_Embedding(classifiers, found, prediction)]
    return [first, below, below]


def _changes(title, before, after, label):
    """Return the picture of where two predictions ``[H, W]`` differ, with the share of pixels."""
    kinds = differ = before != after
    text = f'{differ.mean():.1%} differ (violet)'
    if label is not None:
        better, worse = differ & (after == label), differ & (before == label)
        kinds = differ + 1 * better + 2 * worse
        text = f'{better.mean():.1%} better (green)\n{worse.mean():.1%} worse (red)'
    return Picture(f'{title}\n{text}', CHANGES[kinds.astype(int)])


@dataclass(eq=False)
class _Embedding:
    """Features (dots), original weights (circles) and rewritten weights (stars) by t-SNE."""

    classifiers: Classifiers
    classes: list
    prediction: object
    title: str = 'features and weights in two dimensions (t-SNE)'

    def draw(self, axes):
        from sklearn.manifold import TSNE

        (features, _, _, original, rewritten, _), prediction = self.classifiers, self.prediction
        label = prediction.predicted if prediction.label is None else prediction.label
        label = _at_feature_size(label, prediction, features.shape[1:]).flatten()  # [h * w]
        chosen = torch.isin(label, torch.tensor(self.classes)).nonzero().flatten()
        chosen = chosen[torch.linspace(0, len(chosen) - 1, min(FEATURES, len(chosen))).long()]
        vectors = [features.flatten(1).T[chosen], original[self.classes], rewritten[self.classes]]
        # The classifier compares directions (by cosine), so lengths are left out.
        points = F.normalize(torch.cat(vectors), dim=1).numpy()
        perplexity = min(30, (len(points) - 1) / 3)
        places = TSNE(perplexity=perplexity, init='pca', random_state=0).fit_transform(points)
        dots, circles, stars = np.split(places, np.cumsum([len(each) for each in vectors])[:-1])
        colours = prediction.colours(label[chosen])
        axes.scatter(*dots.T, s=12, c=colours, edgecolors='none', label='feature of a pixel')
        style = dict(c=prediction.colours(self.classes), edgecolors='black', linewidths=0.8)
        axes.scatter(*circles.T, s=80, label='original weights', **style)
        axes.scatter(*stars.T, s=150, marker='*', label='context-aware weights', **style)
        axes.set(xticks=[], yticks=[])
        place = dict(loc='upper left', bbox_to_anchor=(0, 0), ncols=3)
        axes.legend(fontsize=SMALL, frameon=False, **place)


def at_pixel(classifiers, prediction, pixel):
    """Return the logits of each classifier at a pixel, and how far each class's weights moved."""
    moves = classifiers.moves
    logits = {
        name: prediction.resize(each, pixel).full().flatten()
        for name, each in classifiers.logits.items()
    }
    said = [f'{name}: {prediction.classes[each.argmax()]}' for name, each in logits.items()]
    farthest = moves.argmax().item()
    order = logits['refined'].argsort(descending=True).tolist()
    values = {**logits, 'weights moved': moves}
    rows = [
        [prediction.classes[index], *(each[index].item() for each in values.values())]
        for index in order
    ]
    del order[PIXEL_BARS:]
    bars = [
        Bars(
            title,
            [prediction.classes[index] if title == 'prior' else '' for index in order],
            numbers[order].tolist(),
            prediction.colours(order),
            '1 − cosine' if numbers is moves else 'logit',
        )
        for title, numbers in values.items()
    ]
    return PixelAnswer(
        f'Class by {"; by ".join(said)}. Compare logits within one classifier only. In this image '
        f'the weights of {prediction.classes[farthest]} moved most: '
        f'1 − cosine = {moves[farthest]:.3f}.',
        ('class', *(f'logit by {name}' for name in logits), 'its weights moved'),
        rows,
        [bars, bars],
    )

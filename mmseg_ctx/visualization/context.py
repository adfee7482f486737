"""A sheet about one image: what a head's context looks like."""

from contextlib import ExitStack
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmseg_ctx.heads import (
    AdaptiveContextHead,
    ContextAdaptiveConvHead,
    ContextAwareClassifierHead,
    ContextTandemHead,
    DynamicMultiScaleHead,
)
from mmseg_ctx.ops.labels import IGNORED
from mmseg_ctx.utils.models import last_head
from mmseg_ctx.visualization import acnet, cac, cacnet, ctnet, dmnet
from mmseg_ctx.visualization.labels import class_entries
from mmseg_ctx.visualization.panels import SMALL, show_label, show_picture
from mmseg_ctx.visualization.prediction import Prediction, predict
from mmseg_ctx.visualization.recording import recording

# The file that reads and draws the context of each kind of head. A head in CAC is of two kinds, so
# its sheet has two parts. Each file defines, for its part of a sheet:
# - TITLE and EXPLANATION, which stand above it, and HEIGHT, its height in inches without them;
# - recorded_modules(head): the modules, by name, whose inputs and outputs it needs;
# - read_context(head, records, scene): what the head computed, from the records of these modules;
# - draw(figure, context, scene), where the context is the result of read_context.
# And for a pixel on the page of tools/explore.py:
# - read_pixel(context, scene, row, column): what the head computed there;
# - describe_pixel(here, scene): the same as a PixelTable, where here is the result of read_pixel;
# - pixel_height(here), in inches, and draw_pixel(figure, here, scene, row, column).
METHODS = {
    ContextAdaptiveConvHead: cacnet,
    AdaptiveContextHead: acnet,
    DynamicMultiScaleHead: dmnet,
    ContextTandemHead: ctnet,
    ContextAwareClassifierHead: cac,
}
WIDTH = 12.0
TOP_HEIGHT = 3.2
HEADER_HEIGHT = 0.6
LEGEND_COLUMNS = 7


class Context(NamedTuple):
    """What the context methods in a model computed for one image.

    Attributes:
        scene (Prediction): The image and the prediction.
        methods (list[tuple[module, object]]): For each method in the head, its file in this
            package and the result of that file's ``read_context``.
    """

    scene: Prediction
    methods: list


def find_methods(head):
    """Return the files of the context methods in a decode head: a list, which may be empty."""
    return [method for kind, method in METHODS.items() if isinstance(head, kind)]


def require_methods(segmentor):
    """Raise a ValueError for a segmentor whose decode head is no method of this package."""
    head = last_head(segmentor)
    if not find_methods(head):
        raise ValueError(
            f'the decode head must be one of {", ".join(kind.__name__ for kind in METHODS)}, '
            f'got {type(head).__name__}'
        )


@torch.no_grad()
def read_context(segmentor, item, dataset_meta):
    """Let a segmentor predict one image, and return what its context methods computed.

    Args:
        segmentor (BaseSegmentor): In evaluation mode, with any decode head.
        item (dict): An item of a test data set: ``inputs``, uint8 ``[3, H, W]``, and
            ``data_samples``, a ``SegDataSample``, with the label if there is one.
        dataset_meta (dict): ``metainfo`` of the data set: ``classes`` and ``palette``.

    Returns:
        Context: The results of one forward pass.

    Raises:
        ValueError: The label is not of the size of the image, or has values that are no class.
    """
    head = last_head(segmentor)
    methods = find_methods(head)
    with ExitStack() as stack:
        if isinstance(head, ContextAwareClassifierHead):
            stack.enter_context(cac.with_dropout(head))
        modules = {
            (method, name): module
            for method in methods
            for name, module in method.recorded_modules(head).items()
        }
        ignore_index = getattr(head, 'ignore_index', IGNORED)
        with recording(modules) as records:
            scene = predict(segmentor, item, dataset_meta, ignore_index)
        found = []
        for method in methods:
            own = {name: record for (owner, name), record in records.items() if owner is method}
            found.append((method, method.read_context(head, own, scene)))
    return Context(scene, found)


def draw_context(segmentor, item, dataset_meta):
    """Draw the sheet of one image: image, ground truth, prediction, and the method's context.

    Args:
        segmentor (BaseSegmentor): See :func:`read_context`.
        item (dict): See :func:`read_context`.
        dataset_meta (dict): See :func:`read_context`.

    Returns:
        matplotlib.figure.Figure: The sheet; ``figure.savefig`` saves it.

    Raises:
        ValueError: The decode head is no method of this package, the label is not of the size of
            the image, or it has values that are no class.

    Example:
        >>> figure = draw_context(segmentor, dataset[0], dataset.metainfo)
        >>> figure.savefig('context.png', dpi=150)
    """
    require_methods(segmentor)
    scene, methods = read_context(segmentor, item, dataset_meta)
    shown = [scene.predicted, scene.label]
    for method, context in methods:
        if method is cac:
            shown += cac.label_maps(context)
    entries = class_entries(shown, scene.classes, scene.palette)
    legend_height = 0.3 + 0.22 * -(-len(entries) // LEGEND_COLUMNS)
    heights = [TOP_HEIGHT, *(method.HEIGHT + HEADER_HEIGHT for method, _ in methods), legend_height]
    figure = Figure(figsize=(WIDTH, sum(heights)), layout='constrained')
    figure.get_layout_engine().set(h_pad=0.07)
    top, *parts, bottom = figure.subfigures(len(heights), 1, height_ratios=heights)
    _draw_top(top, scene)
    for part, (method, context) in zip(parts, methods, strict=True):
        _draw_method(part, method, context, scene)
    bottom.legend(handles=entries, loc='center', ncols=LEGEND_COLUMNS, fontsize=9, frameon=False)
    return figure


def to_picture(figure, dpi=100):
    """Return a figure as an RGB picture, uint8 ``[H, W, 3]``."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _draw_top(figure, scene):
    labels = {'ground truth': scene.label, 'prediction': scene.predicted}
    labels = {title: label for title, label in labels.items() if label is not None}
    first, *others = figure.subplots(1, 1 + len(labels))
    show_picture(first, scene.image, 'image')
    for axes, (title, label) in zip(others, labels.items(), strict=True):
        show_label(axes, label, scene.palette, title)


def _draw_method(figure, method, context, scene):
    """Draw a method's title, its explanation, and its context below them."""
    above, below = figure.subfigures(2, 1, height_ratios=(HEADER_HEIGHT, method.HEIGHT))
    above.text(0.5, 0.95, method.TITLE, ha='center', va='top', fontsize=12)
    style = dict(ha='center', va='bottom', fontsize=SMALL, color='0.35')
    above.text(0.5, 0.1, method.EXPLANATION, **style)
    method.draw(below, context, scene)

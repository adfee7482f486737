"""A sheet about one image: what a head's context looks like.

The sheet of a head is the file here with the name of the head's own file in ``heads/``; a head
without one gets ``plain.py``. A head in CAC has two. A sheet defines, for its part of the figure:

- ``TITLE`` and ``EXPLANATION``, which stand above it, and ``HEIGHT``, in inches without them;
- ``read_context(head, shown, prediction)``: what the head computed, from what it showed of itself,
  see :func:`mmseg_ctx.utils.recording.recording`;
- ``draw(figure, context, prediction)``, where ``context`` is the result of ``read_context``;

and for a pixel of the original image, on the page of ``tools/explore.py``:

- ``read_pixel(context, prediction, row, column)``: what the head computed there;
- ``describe_pixel(here, prediction)``: a :class:`~mmseg_ctx.visualization.panels.PixelTable`, where
  ``here`` is the result of ``read_pixel``;
- ``draw_pixel(figure, here, prediction, row, column)``, which also sets the figure's height.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmseg_ctx.heads.base import ContextHead
from mmseg_ctx.heads.cac import ContextAwareClassifier, ContextAwareClassifierHead
from mmseg_ctx.ops.labels import IGNORED
from mmseg_ctx.utils.models import last_head
from mmseg_ctx.utils.recording import recording
from mmseg_ctx.visualization import cac, plain
from mmseg_ctx.visualization.labels import class_entries
from mmseg_ctx.visualization.panels import SMALL, show_label, show_picture
from mmseg_ctx.visualization.prediction import Prediction, predict

WIDTH = 12.0
TOP_HEIGHT = 3.2
HEADER_HEIGHT = 0.6
LEGEND_COLUMNS = 7


class Context(NamedTuple):
    """What a decode head computed for one image.

    Attributes:
        prediction (Prediction): The image and the prediction.
        methods (list[tuple[module, object]]): For each context method in the head, its sheet and
            the result of the sheet's ``read_context``.
    """

    prediction: Prediction
    methods: list


def find_methods(head):
    """Return the sheets of the context methods in a decode head: a list, which may be empty."""
    own = _own_head(head)
    sheets = [_sheet(type(own))] if isinstance(own, ContextHead) else []
    in_cac = any(isinstance(part, ContextAwareClassifier) for part in head.modules())
    return sheets + [cac] * in_cac


def _own_head(head):
    """Return the head that a ``ContextAwareClassifierHead`` equips, or a head that is none."""
    return head.head if isinstance(head, ContextAwareClassifierHead) else head


def _sheet(kind):
    for cls in kind.__mro__:
        room, _, name = cls.__module__.rpartition('.')
        if room == 'mmseg_ctx.heads' and find_spec(f'{__package__}.{name}'):
            return import_module(f'{__package__}.{name}')
    return plain


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
    ignore_index = getattr(head, 'ignore_index', IGNORED)
    with recording(head, _own_head(head)) as shown:
        prediction = predict(segmentor, item, dataset_meta, ignore_index)
    methods = find_methods(head)
    read = [(sheet, sheet.read_context(head, shown, prediction)) for sheet in methods]
    return Context(prediction, read)


def draw_context(segmentor, item, dataset_meta):
    """Draw the sheet of one image: image, ground truth, prediction, and the head's context.

    Args:
        segmentor (BaseSegmentor): See :func:`read_context`.
        item (dict): See :func:`read_context`.
        dataset_meta (dict): See :func:`read_context`.

    Returns:
        matplotlib.figure.Figure: The sheet; ``figure.savefig`` saves it.

    Raises:
        ValueError: See :func:`read_context`.

    Example:
        >>> figure = draw_context(segmentor, dataset[0], dataset.metainfo)
        >>> figure.savefig('context.png', dpi=150)
    """
    prediction, methods = read_context(segmentor, item, dataset_meta)
    methods = methods or [(plain, plain.read_context(last_head(segmentor), {}, prediction))]
    labels = [prediction.predicted, prediction.label]
    for sheet, context in methods:
        labels += sheet.label_maps(context) if sheet is cac else []
    entries = class_entries(labels, prediction.classes, prediction.palette)
    legend_height = 0.3 + 0.22 * -(-len(entries) // LEGEND_COLUMNS)
    heights = [TOP_HEIGHT, *(sheet.HEIGHT + HEADER_HEIGHT for sheet, _ in methods), legend_height]
    figure = Figure(figsize=(WIDTH, sum(heights)), layout='constrained')
    figure.get_layout_engine().set(h_pad=0.07)
    top, *parts, bottom = figure.subfigures(len(heights), 1, height_ratios=heights)
    _draw_top(top, prediction)
    for part, (sheet, context) in zip(parts, methods, strict=True):
        above, below = part.subfigures(2, 1, height_ratios=(HEADER_HEIGHT, sheet.HEIGHT))
        above.text(0.5, 0.95, sheet.TITLE, ha='center', va='top', fontsize=12)
        style = dict(ha='center', va='bottom', fontsize=SMALL, color='0.35')
        above.text(0.5, 0.1, sheet.EXPLANATION, **style)
        sheet.draw(below, context, prediction)
    bottom.legend(handles=entries, loc='center', ncols=LEGEND_COLUMNS, fontsize=9, frameon=False)
    return figure


def to_picture(figure, dpi=100):
    """Return a figure as an RGB picture, uint8 ``[H, W, 3]``."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _draw_top(figure, prediction):
    labels = {'ground truth': prediction.label, 'prediction': prediction.predicted}
    labels = {title: label for title, label in labels.items() if label is not None}
    first, *others = figure.subplots(1, 1 + len(labels))
    show_picture(first, prediction.image, 'image')
    for axes, (title, label) in zip(others, labels.items(), strict=True):
        show_label(axes, label, prediction.palette, title)

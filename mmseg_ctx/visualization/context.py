"""A sheet about one image: what a head's context looks like.

The sheet of a head is the file here with the name of the head's own file in ``heads/``; a head
without one gets ``plain.py``. A head in CAC has two. A sheet defines:

- ``TITLE`` and ``EXPLANATION``, which stand above and below its panels;
- ``read_context(head, shown, prediction)``: what the head computed, from what it showed of itself,
  see :func:`mmseg_ctx.utils.recording.recording`;
- ``panels(context, prediction)``, where ``context`` is the result of ``read_context``: the panels
  of the sheet, see :func:`mmseg_ctx.visualization.panels.draw_panels`;
- ``at_pixel(context, prediction, pixel)``: a :class:`~mmseg_ctx.visualization.panels.PixelAnswer`
  about a pixel of the original image, given by row and column, for the page of
  ``tools/explore.py``.
"""

from importlib import import_module
from importlib.util import find_spec

import torch

from mmseg_ctx.heads.base import ContextHead
from mmseg_ctx.heads.cac import ContextAwareClassifier, ContextAwareClassifierHead
from mmseg_ctx.ops.labels import IGNORED
from mmseg_ctx.utils.models import last_head
from mmseg_ctx.utils.recording import recording
from mmseg_ctx.visualization import cac, plain
from mmseg_ctx.visualization.panels import Picture, draw_sheet
from mmseg_ctx.visualization.prediction import predict


def find_sheets(head):
    """Return the sheets of the context methods in a decode head, or else the plain one: a list."""
    own = _own_head(head)
    sheets = [_sheet(type(own))] if isinstance(own, ContextHead) else []
    if any(isinstance(part, ContextAwareClassifier) for part in head.modules()):
        sheets.append(cac)
    return sheets or [plain]


def _sheet(kind):
    for cls in kind.__mro__:
        folder, _, name = cls.__module__.rpartition('.')
        if folder == 'mmseg_ctx.heads' and find_spec(f'{__package__}.{name}'):
            return import_module(f'{__package__}.{name}')
    return plain


def _own_head(head):
    """Return the head that a ``ContextAwareClassifierHead`` equips, or the head itself."""
    return head.head if isinstance(head, ContextAwareClassifierHead) else head


@torch.no_grad()
def read_context(segmentor, item, dataset_meta):
    """Let a segmentor predict one image, and return what its context methods computed.

    Args:
        segmentor (BaseSegmentor): In evaluation mode, with any decode head.
        item (dict): An item of a test data set: ``inputs``, uint8 ``[3, H, W]``, and
            ``data_samples``, a ``SegDataSample``, with the label if there is one.
        dataset_meta (dict): ``metainfo`` of the data set: ``classes`` and ``palette``.

    Returns:
        tuple[Prediction, list[tuple]]: The prediction of one forward pass, and for each sheet of
        the head, the module and what its ``read_context`` returns.

    Raises:
        ValueError: The label is not of the size of the image, or has values that are no class.
    """
    head = last_head(segmentor)
    ignore_index = getattr(head, 'ignore_index', IGNORED)
    # A wrapped head shows tensors of its own, and is no submodule of CAC's.
    with recording(head, _own_head(head)) as shown:
        prediction = predict(segmentor, item, dataset_meta, ignore_index)
    sheets = find_sheets(head)
    return prediction, [(each, each.read_context(head, shown, prediction)) for each in sheets]


def draw_context(segmentor, item, dataset_meta):
    """Draw the sheet of one image: image, ground truth, prediction, and the head's context.

    Args:
        segmentor (BaseSegmentor): As in :func:`read_context`, like the other arguments.
        item (dict): ``inputs`` and ``data_samples`` of an image of a test data set.
        dataset_meta (dict): ``classes`` and ``palette``.

    Returns:
        matplotlib.figure.Figure: The sheet; ``figure.savefig`` saves it.

    Example:
        >>> figure = draw_context(segmentor, dataset[0], dataset.metainfo)
        >>> figure.savefig('context.png', dpi=150)
    """
    prediction, methods = read_context(segmentor, item, dataset_meta)
    labels = {'ground truth': prediction.label, 'prediction': prediction.predicted}
    top = [Picture('image', prediction.image)]
    top += [Picture(*each, prediction.palette) for each in labels.items() if each[1] is not None]
    parts = [
        (sheet.TITLE, sheet.EXPLANATION, sheet.panels(context, prediction))
        for sheet, context in methods
    ]
    parts.insert(0, ('', '', [top]))
    height, width = prediction.predicted.shape
    return draw_sheet(parts, prediction.classes, prediction.palette, aspect=height / width)

"""A sheet about one image: what a head's context looks like."""

from typing import NamedTuple

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmseg.models.decode_heads.decode_head import BaseDecodeHead

from mmseg_ctx.heads import (
    AdaptiveContextHead,
    ContextAdaptiveConvHead,
    ContextAwareClassifierHead,
    ContextTandemHead,
    DynamicMultiScaleHead,
)
from mmseg_ctx.visualization import acnet, cac, cacnet, ctnet, dmnet
from mmseg_ctx.visualization.panels import show_label, show_picture
from mmseg_ctx.visualization.scene import look
from mmseg_ctx.visualization.sheet import legend_entry

# What there is to see of each method; a wrapped head is of two kinds.
METHODS = {
    ContextAdaptiveConvHead: ('CaC-Net: context predicts kernels, which weigh features', cacnet),
    AdaptiveContextHead: ('ACNet: global or local context, place by place', acnet),
    DynamicMultiScaleHead: ('DMNet: filters made from the image', dmnet),
    ContextTandemHead: ('CTNet: expected classes guide attention', ctnet),
    ContextAwareClassifierHead: ('CAC: a classifier rewritten for the image', cac),
}
WIDTH = 12.0
TOP_HEIGHT = 3.2
LEGEND_COLUMNS = 7


class Context(NamedTuple):
    """What of a model there is to see.

    Attributes:
        head (BaseDecodeHead): The decode head, the last of a cascade.
        methods (list[tuple[str, module]]): Title and drawing module of each method in it.
    """

    head: BaseDecodeHead
    methods: list


def find_context(segmentor):
    """Return what of a segmentor there is to see.

    Raises:
        ValueError: Its decode head is of no method of this package.
    """
    head = segmentor.decode_head
    head = head if isinstance(head, BaseDecodeHead) else head[-1]
    methods = [method for kind, method in METHODS.items() if isinstance(head, kind)]
    if not methods:
        raise ValueError(
            f'the decode head must be one of {", ".join(kind.__name__ for kind in METHODS)}, '
            f'got {type(head).__name__}'
        )
    return Context(head, methods)


@torch.no_grad()
def draw_context(segmentor, item, dataset_meta):
    """Draw the sheet of one image: image, ground truth, prediction, and the method's context.

    Args:
        segmentor (BaseSegmentor): In evaluation mode.
        item (dict): What a test data set gives: ``inputs``, uint8 ``[3, H, W]``, and
            ``data_samples``, a ``SegDataSample``, with the label if there is one.
        dataset_meta (dict): ``classes`` and ``palette``, as data sets have them.

    Returns:
        matplotlib.figure.Figure: To be saved with ``figure.savefig``.

    Raises:
        ValueError: The decode head is of no method of this package, or the label does not do.

    Example:
        >>> figure = draw_context(segmentor, dataset[0], dataset.metainfo)
        >>> figure.savefig('context.png', dpi=150)
    """
    head, methods = find_context(segmentor)
    with cac.with_dropout(head):
        modules = {
            (title, name): module
            for title, method in methods
            for name, module in method.modules(head).items()
        }
        scene, records = look(segmentor, item, dataset_meta, modules, head.ignore_index)
    heights = [TOP_HEIGHT, *(method.HEIGHT for _, method in methods)]
    legend = _legend(scene)
    legend_height = 0.3 + 0.22 * -(-len(legend) // LEGEND_COLUMNS)
    figure = Figure(figsize=(WIDTH, sum(heights) + legend_height), layout='constrained')
    figure.get_layout_engine().set(h_pad=0.07)
    parts = figure.subfigures(
        len(heights) + 1, 1, height_ratios=[*heights, legend_height], squeeze=False
    )[:, 0]
    _draw_top(parts[0], scene)
    for part, (title, method) in zip(parts[1:], methods, strict=False):
        part.suptitle(title, fontsize=12)
        own = {name: record for (of, name), record in records.items() if of == title}
        method.draw(part, head, own, scene)
    parts[-1].legend(handles=legend, loc='center', ncols=LEGEND_COLUMNS, fontsize=9, frameon=False)
    return figure


def to_picture(figure, dpi=100):
    """Return a figure as an RGB picture, uint8 ``[H, W, 3]``."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _draw_top(figure, scene):
    labels = {'ground truth': scene.label, 'prediction': scene.prediction}
    labels = {title: label for title, label in labels.items() if label is not None}
    first, *others = figure.subplots(1, 1 + len(labels))
    show_picture(first, scene.image, 'image')
    for axes, (title, label) in zip(others, labels.items(), strict=True):
        show_label(axes, label, scene.palette, title)


def _legend(scene):
    maps = [scene.prediction.ravel()]
    if scene.label is not None:
        maps.append(scene.label.ravel())
    shown = np.unique(np.concatenate(maps)).tolist()
    return [legend_entry(index, scene.classes, scene.palette) for index in shown]

"""What a sheet about one image starts from: the image, what a model says, what its parts said."""

import copy
from collections.abc import Callable
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import ConfigDict

from mmseg_ctx.utils.models import swaps_channels
from mmseg_ctx.visualization.sheet import IGNORED


class Scene(NamedTuple):
    """An image and what there is to know about it.

    Attributes:
        image (np.ndarray): RGB, uint8 ``[H, W, 3]``, as the model was given it.
        prediction (np.ndarray): Classes ``[H, W]``, here and below of the original image's size.
        label (np.ndarray | None): The ground truth ``[H, W]``, 255 where it is ignored, or None.
        classes (Sequence[str]): The classes' names.
        palette (Sequence[Sequence[int]]): Their colours, RGB in 0 to 255.
        predict (Callable[[str], np.ndarray]): What another of a context-aware classifier's
            classifiers says, ``'prior'`` or ``'oracle'``: classes ``[H, W]``.
    """

    image: np.ndarray
    prediction: np.ndarray
    label: np.ndarray | None
    classes: tuple
    palette: tuple
    predict: Callable

    def colour(self, index):
        """Return the colour of a class as three floats of 0 to 1."""
        return tuple(np.divide(self.palette[index], 255))


@contextmanager
def recording(modules):
    """Remember what modules last read and gave, by forward hooks.

    Args:
        modules (dict[str, nn.Module]): The modules by name.

    Yields:
        dict[str, tuple[tuple, object]]: Inputs and output of each that ran, by its name.

    Example:
        >>> conv = torch.nn.Conv2d(3, 8, 1)
        >>> with recording(dict(conv=conv)) as records:
        ...     _ = conv(torch.rand(1, 3, 4, 4))
        >>> inputs, output = records['conv']
    """
    records = {}

    def hook_of(name):
        def hook(module, inputs, output):
            records[name] = inputs, output

        return hook

    handles = [module.register_forward_hook(hook_of(name)) for name, module in modules.items()]
    try:
        yield records
    finally:
        for handle in handles:
            handle.remove()


def look(segmentor, item, dataset_meta, modules, ignore_index=IGNORED):
    """Show a segmentor one image, whole, and record its modules.

    Args:
        segmentor (BaseSegmentor): In evaluation mode.
        item (dict): What a test data set gives: ``inputs``, uint8 ``[3, H, W]``, and
            ``data_samples``, a ``SegDataSample``, with the label if there is one.
        dataset_meta (dict): ``classes`` and ``palette``.
        modules (dict[str, nn.Module]): See :func:`recording`.
        ignore_index (int): What the label has where it is ignored. Default: 255.

    Returns:
        tuple[Scene, dict]: The scene, and the records of :func:`recording`.

    Raises:
        ValueError: The label is not of the size of the image, or has values that are no class.
    """
    with recording(modules) as records:
        prediction = _predict(segmentor, item, 'refined')
    classes = tuple(dataset_meta['classes'])
    label = item['data_samples'].get('gt_sem_seg')
    if label is not None:
        label = _checked(label.data[0].cpu().numpy(), prediction.shape, len(classes), ignore_index)
    scene = Scene(
        image=_rgb(item['inputs'], segmentor.data_preprocessor),
        prediction=prediction,
        label=label,
        classes=classes,
        palette=tuple(dataset_meta['palette']),
        predict=lambda classifier: _predict(segmentor, item, classifier),
    )
    return scene, records


def _checked(label, shape, num_classes, ignore_index):
    """Return a label map with ``IGNORED`` for the ignored pixels."""
    if label.shape != shape:
        raise ValueError(f'the label must be of the size of the image, {shape}, got {label.shape}')
    ignored = label == ignore_index
    wrong = np.setdiff1d(label[~ignored], np.arange(num_classes)).tolist()
    if wrong:
        raise ValueError(
            f'the label must have the classes 0 to {num_classes - 1}, or {ignore_index} where it '
            f'is ignored, got {", ".join(map(str, wrong[:5]))}'
        )
    return np.where(ignored, IGNORED, label)


def _rgb(image, preprocessor):
    array = image.cpu().numpy().transpose(1, 2, 0).clip(0, 255).astype(np.uint8)
    # Images are read as BGR; a model that leaves the channels alone may have been given either.
    return array[..., ::-1] if swaps_channels(preprocessor) else array


def _predict(segmentor, item, classifier):
    sample = copy.deepcopy(item['data_samples'])
    label = sample.gt_sem_seg.data if classifier == 'oracle' else None
    sample.set_metainfo(dict(evaluated_classifier=(classifier, label)))
    with _whole_images(segmentor), torch.no_grad():
        (result,) = segmentor.test_step(dict(inputs=[item['inputs']], data_samples=[sample]))
    return result.pred_sem_seg.data[0].cpu().numpy()


@contextmanager
def _whole_images(segmentor):
    """Let the head see each image once, and not in windows."""
    test_cfg = segmentor.test_cfg
    segmentor.test_cfg = ConfigDict(test_cfg or {}, mode='whole')
    try:
        yield
    finally:
        segmentor.test_cfg = test_cfg

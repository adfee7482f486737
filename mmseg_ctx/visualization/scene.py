"""One image as a model sees it: picture, prediction, and what the model's parts computed."""

import copy
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import ConfigDict

from mmseg_ctx.ops import IGNORED, Interpolation, ResizedLogits
from mmseg_ctx.utils.models import swaps_channels

_PREPROCESSOR = 'data preprocessor'


class Frame(NamedTuple):
    """Where a feature map lies: over the image, and over the padding below and right of it.

    Attributes:
        size (tuple[int, int]): Height and width of the image in pixels.
        padded_size (tuple[int, int]): Those of the padded image, which feature maps cover.
    """

    size: tuple
    padded_size: tuple

    def inside(self, maps):
        """Return the part of maps ``[..., h, w]`` whose cells touch the image."""
        height, width = (
            -(-cells * pixels // padded)
            for cells, pixels, padded in zip(
                maps.shape[-2:], self.size, self.padded_size, strict=True
            )
        )
        return maps[..., :height, :width]


class Scene(NamedTuple):
    """An image and what a model says about it.

    Attributes:
        image (np.ndarray): RGB, uint8 ``[H', W', 3]``, as the model was given it.
        frame (Frame): Where feature maps lie over ``image``.
        prediction (np.ndarray): Classes ``[H, W]``, here and below of the original image's size.
        label (np.ndarray | None): The ground truth ``[H, W]``, 255 where it is ignored, or None.
        classes (Sequence[str]): The classes' names.
        palette (Sequence[Sequence[int]]): Their colours, RGB in 0 to 255.
        logits (Tensor): What the segmentor predicts with, ``[N, H, W]``; with one output channel
            the probability of class 1, ``[1, H, W]``.
        align_corners (bool): How the segmentor resizes logits.
    """

    image: np.ndarray
    frame: Frame
    prediction: np.ndarray
    label: np.ndarray | None
    classes: tuple
    palette: tuple
    logits: torch.Tensor
    align_corners: bool

    def colour(self, index):
        """Return the colour of a class as three floats of 0 to 1."""
        return tuple(np.divide(self.palette[index], 255))

    def cell(self, row, column, shape):
        """Return which cell of a feature map covers a pixel of the original image.

        Args:
            row (int): The pixel's row, from 0 to H - 1.
            column (int): Its column, from 0 to W - 1.
            shape (Sequence[int]): Height and width of the feature map.

        Returns:
            tuple[int, int]: Row and column of the cell that holds the pixel's centre.
        """
        return tuple(
            int((pixel + 0.5) / original * seen / padded * cells)
            for pixel, original, seen, padded, cells in zip(
                (row, column), self.prediction.shape, *self.frame, shape, strict=True
            )
        )

    def seen_pixel(self, row, column):
        """Return where a pixel of the original image lies in ``image``: row and column, floats."""
        return tuple(
            (pixel + 0.5) / original * seen - 0.5
            for pixel, original, seen in zip(
                (row, column), self.prediction.shape, self.frame.size, strict=True
            )
        )

    def resize(self, logits):
        """Bring logits of the decode head to the original image's size, as the segmentor does.

        Args:
            logits (Tensor): ``[N, h, w]``.

        Returns:
            ResizedLogits: ``[N, H, W]``, of which any part can be had.
        """
        rows, columns = (
            Interpolation.identity(cells, logits)
            .resize(padded, self.align_corners)
            .crop(0, seen)
            .resize(original, self.align_corners)
            for cells, padded, seen, original in zip(
                logits.shape[1:],
                self.frame.padded_size,
                self.frame.size,
                self.prediction.shape,
                strict=True,
            )
        )
        return ResizedLogits([[logits]], [rows], [columns])

    def logits_at(self, logits, row, column):
        """Return the values ``[N]`` that logits of the decode head have at one pixel.

        Args:
            logits (Tensor): ``[N, h, w]``.
            row (int): The pixel's row in the original image.
            column (int): Its column.
        """
        resized = self.resize(logits)
        row_weights, rows = resized.rows[0].tile(row, 1)
        column_weights, columns = resized.columns[0].tile(column, 1)
        return (row_weights @ logits[:, rows, columns] @ column_weights.T).flatten()


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


@torch.no_grad()
def predict_scene(segmentor, item, dataset_meta, modules, ignore_index=IGNORED):
    """Let a segmentor predict one image, whole and in one forward pass, and record its modules.

    Args:
        segmentor (BaseSegmentor): In evaluation mode.
        item (dict): What a test data set gives: ``inputs``, uint8 ``[3, H', W']``, and
            ``data_samples``, a ``SegDataSample``, with the label if there is one.
        dataset_meta (dict): ``classes`` and ``palette``.
        modules (dict[str, nn.Module]): See :func:`recording`.
        ignore_index (int): What the label has where it is ignored. Default: 255.

    Returns:
        tuple[Scene, dict]: The scene, and the records of :func:`recording`.

    Raises:
        ValueError: The label is not of the size of the image, or has values that are no class.
    """
    image = _rgb(item['inputs'], segmentor.data_preprocessor)
    sample = copy.deepcopy(item['data_samples'])
    modules = {**modules, _PREPROCESSOR: segmentor.data_preprocessor}
    with _whole_images(segmentor), recording(modules) as records:
        (result,) = segmentor.test_step(dict(inputs=[item['inputs']], data_samples=[sample]))
    _, preprocessed = records.pop(_PREPROCESSOR)
    prediction = result.pred_sem_seg.data[0].cpu().numpy()
    classes = tuple(dataset_meta['classes'])
    label = item['data_samples'].get('gt_sem_seg')
    if label is not None:
        label = _checked(label.data[0].cpu().numpy(), prediction.shape, len(classes), ignore_index)
    scene = Scene(
        image=image,
        frame=Frame(image.shape[:2], tuple(preprocessed['inputs'].shape[2:])),
        prediction=prediction,
        label=label,
        classes=classes,
        palette=tuple(dataset_meta['palette']),
        logits=result.seg_logits.data,
        align_corners=segmentor.align_corners,
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


@contextmanager
def _whole_images(segmentor):
    """Let the head see each image once and not in windows, and keep its full-size logits."""
    test_cfg = segmentor.test_cfg
    segmentor.test_cfg = ConfigDict(test_cfg or {}, mode='whole', keep_logits=True)
    try:
        yield
    finally:
        segmentor.test_cfg = test_cfg

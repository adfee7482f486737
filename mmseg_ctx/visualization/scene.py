"""One image, a model's prediction for it, and what the model's modules computed."""

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
    """The sizes of an image without and with the padding below and to the right of it.

    Attributes:
        size (tuple[int, int]): Height and width of the image in pixels.
        padded_size (tuple[int, int]): Height and width of the padded image, which a feature map
            covers.
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
        image (np.ndarray): The model's input, RGB, uint8 ``[H', W', 3]``.
        frame (Frame): Where feature maps lie over ``image``.
        prediction (np.ndarray): Classes ``[H, W]``; H and W are the size of the original image.
        label (np.ndarray | None): The ground truth ``[H, W]``, 255 where it is ignored, or None.
        classes (Sequence[str]): The names of the classes.
        palette (Sequence[Sequence[int]]): The colours of the classes, RGB in 0 to 255.
        logits (Tensor): The segmentor's logits ``[N, H, W]``; with one output channel, the
            probability of class 1, ``[1, H, W]``.
        align_corners (bool): ``align_corners`` of the segmentor's resizing of logits.
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
        """Return the cell of a feature map that covers the centre of a pixel.

        Args:
            row (int): The pixel's row in the original image, from 0 to H - 1.
            column (int): The pixel's column, from 0 to W - 1.
            shape (Sequence[int]): Height and width of the feature map.

        Returns:
            tuple[int, int]: Row and column of the cell.
        """
        return tuple(
            int((pixel + 0.5) / original * seen / padded * cells)
            for pixel, original, seen, padded, cells in zip(
                (row, column), self.prediction.shape, *self.frame, shape, strict=True
            )
        )

    def seen_pixel(self, row, column):
        """Return row and column, as floats, of a pixel of the original image in ``image``."""
        return tuple(
            (pixel + 0.5) / original * seen - 0.5
            for pixel, original, seen in zip(
                (row, column), self.prediction.shape, self.frame.size, strict=True
            )
        )

    def resize(self, logits):
        """Resize logits of the decode head to the original image, as the segmentor does.

        Args:
            logits (Tensor): ``[N, h, w]``.

        Returns:
            ResizedLogits: ``[N, H, W]``, computed in parts where they are read.
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
        """Return the resized logits ``[N]`` at one pixel of the original image.

        Args:
            logits (Tensor): Logits of the decode head, ``[N, h, w]``.
            row (int): The pixel's row.
            column (int): The pixel's column.
        """
        resized = self.resize(logits)
        row_weights, rows = resized.rows[0].tile(row, 1)
        column_weights, columns = resized.columns[0].tile(column, 1)
        return (row_weights @ logits[:, rows, columns] @ column_weights.T).flatten()


class Record(NamedTuple):
    """What a module read and computed in its last call.

    Attributes:
        inputs (tuple): The positional arguments.
        output (object): The result.
    """

    inputs: tuple
    output: object


@torch.no_grad()
def predict_scene(segmentor, item, dataset_meta, modules, ignore_index=IGNORED):
    """Let a segmentor predict one image in one forward pass, and record some of its modules.

    Args:
        segmentor (BaseSegmentor): A segmentor in evaluation mode.
        item (dict): An item of a test data set: ``inputs``, uint8 ``[3, H', W']``, and
            ``data_samples``, a ``SegDataSample``, with the label if there is one.
        dataset_meta (dict): ``classes`` and ``palette``.
        modules (dict[Hashable, nn.Module]): The modules to record by any key.
        ignore_index (int): Value of ignored pixels in the label. Default: 255.

    Returns:
        tuple[Scene, dict[Hashable, Record]]: The scene, and the record of each module that ran.

    Raises:
        ValueError: A class has no name, or the label is not of the size of the image, or has values
            that are no class.
    """
    image = _rgb(item['inputs'], segmentor.data_preprocessor)
    sample = copy.deepcopy(item['data_samples'])
    modules = {**modules, _PREPROCESSOR: segmentor.data_preprocessor}
    with _whole_images(segmentor), recording(modules) as records:
        (result,) = segmentor.test_step(dict(inputs=[item['inputs']], data_samples=[sample]))
    preprocessed = records.pop(_PREPROCESSOR).output
    prediction = result.pred_sem_seg.data[0].cpu().numpy()
    classes = tuple(dataset_meta['classes'])
    if len(classes) < segmentor.num_classes:
        raise ValueError(
            f'the model predicts {segmentor.num_classes} classes, '
            f'but only {len(classes)} have names'
        )
    label = item['data_samples'].get('gt_sem_seg')
    if label is not None:
        label = label.data[0].cpu().numpy()
        label = _checked_label(label, prediction.shape, len(classes), ignore_index)
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


@contextmanager
def recording(modules):
    """Record the inputs and output of modules' last calls, by forward hooks.

    Args:
        modules (dict[Hashable, nn.Module]): The modules by name, or by any other key.

    Yields:
        dict[Hashable, Record]: The record of each module that ran, by the module's key.

    Example:
        >>> conv = torch.nn.Conv2d(3, 8, 1)
        >>> with recording(dict(conv=conv)) as records:
        ...     _ = conv(torch.rand(1, 3, 4, 4))
        >>> records['conv'].output.shape
        torch.Size([1, 8, 4, 4])
    """
    records = {}

    def hook_of(key):
        def hook(module, inputs, output):
            records[key] = Record(inputs, output)

        return hook

    handles = [module.register_forward_hook(hook_of(key)) for key, module in modules.items()]
    try:
        yield records
    finally:
        for handle in handles:
            handle.remove()


def _checked_label(label, shape, num_classes, ignore_index):
    """Check a label map, and return it with ``IGNORED`` where pixels are ignored."""
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
    # Data sets read images as BGR. Without a swap in the model, the pipeline may have swapped them.
    return array[..., ::-1] if swaps_channels(preprocessor) else array


@contextmanager
def _whole_images(segmentor):
    """Let a segmentor predict whole images, not windows, and keep the full-size logits."""
    test_cfg = segmentor.test_cfg
    segmentor.test_cfg = ConfigDict(test_cfg or {}, mode='whole', keep_logits=True)
    try:
        yield
    finally:
        segmentor.test_cfg = test_cfg

"""One image, and what a model predicts for it."""

import copy
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import ConfigDict

from mmseg_ctx.ops import IGNORED, Interpolation, ResizedLogits
from mmseg_ctx.utils.models import swaps_channels


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


class Prediction(NamedTuple):
    """An image and what a model predicts for it.

    Attributes:
        image (np.ndarray): The model's input, RGB, uint8 ``[H', W', 3]``.
        frame (Frame): Where feature maps lie over ``image``.
        predicted (np.ndarray): Classes ``[H, W]``; H and W are the size of the original image.
        label (np.ndarray | None): The ground truth ``[H, W]``, 255 where it is ignored, or None.
        classes (Sequence[str]): The names of the classes.
        palette (Sequence[Sequence[int]]): The colours of the classes, RGB in 0 to 255.
        logits (Tensor): The segmentor's logits ``[N, H, W]``; with one output channel, the
            probability of class 1, ``[1, H, W]``.
        align_corners (bool): ``align_corners`` of the segmentor's resizing of logits.
    """

    image: np.ndarray
    frame: Frame
    predicted: np.ndarray
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
                (row, column), self.predicted.shape, *self.frame, shape, strict=True
            )
        )

    def seen_pixel(self, row, column):
        """Return row and column, as floats, of a pixel of the original image in ``image``."""
        return tuple(
            (pixel + 0.5) / original * seen - 0.5
            for pixel, original, seen in zip(
                (row, column), self.predicted.shape, self.frame.size, strict=True
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
                self.predicted.shape,
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
        row_weights, rows = resized.rows.tile(row, 1)
        column_weights, columns = resized.columns.tile(column, 1)
        return (row_weights @ logits[:, rows, columns] @ column_weights.T).flatten()


@torch.no_grad()
def predict(segmentor, item, dataset_meta, ignore_index=IGNORED):
    """Let a segmentor predict one image, as a whole, in one forward pass.

    Args:
        segmentor (BaseSegmentor): A segmentor in evaluation mode.
        item (dict): An item of a test data set: ``inputs``, uint8 ``[3, H', W']``, and
            ``data_samples``, a ``SegDataSample``, with the label if there is one.
        dataset_meta (dict): ``classes`` and ``palette``.
        ignore_index (int): Value of ignored pixels in the label. Default: 255.

    Returns:
        Prediction: The image and what the segmentor predicts for it.

    Raises:
        ValueError: A class has no name, or the label is not of the size of the image, or has values
            that are no class.
    """
    classes = tuple(dataset_meta.get('classes') or ())
    if len(classes) < segmentor.num_classes:
        raise ValueError(
            f'the model predicts {segmentor.num_classes} classes, but only {len(classes)} have '
            "names in the checkpoint or the config's test data"
        )
    sample = copy.deepcopy(item['data_samples'])
    with _whole_images(segmentor):
        (result,) = segmentor.test_step(dict(inputs=[item['inputs']], data_samples=[sample]))
    image = _rgb(item['inputs'], segmentor.data_preprocessor)
    _, right, _, bottom = result.get('img_padding_size', (0, 0, 0, 0))
    predicted = result.pred_sem_seg.data[0].cpu().numpy()
    label = item['data_samples'].get('gt_sem_seg')
    if label is not None:
        label = label.data[0].cpu().numpy()
        label = _checked_label(label, predicted.shape, len(classes), ignore_index)
    return Prediction(
        image=image,
        frame=Frame(image.shape[:2], (image.shape[0] + bottom, image.shape[1] + right)),
        predicted=predicted,
        label=label,
        classes=classes,
        palette=tuple(dataset_meta['palette']),
        logits=result.seg_logits.data,
        align_corners=segmentor.align_corners,
    )


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
    # Of other numbers of channels, the first three are shown, or one as grey.
    shown = image[: 3 if len(image) >= 3 else 1].expand(3, -1, -1)
    array = shown.cpu().numpy().transpose(1, 2, 0).clip(0, 255).astype(np.uint8)
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


def most_probable(logits, count=5):
    """Return the most probable classes of each pixel, and their probabilities: ``[k, H, W]``.

    Args:
        logits (Tensor): ``[N, H, W]``; where N is 1, the probability of class 1.
        count (int): How many classes, if there are as many. Default: 5.
    """
    best = []
    # Row by row, since the memory may not hold a second copy of an image's logits.
    for row in logits.unbind(1):  # [N, W]
        values = torch.cat([1 - row, row]) if len(row) == 1 else row.float().softmax(dim=0)
        best.append(values.topk(min(count, len(values)), dim=0))
    values, classes = (torch.stack(each, dim=1).cpu().numpy() for each in zip(*best, strict=True))
    return classes, values

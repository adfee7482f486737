"""One image, and what a model predicts for it."""

import copy
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import ConfigDict

from mmseg_ctx.ops import IGNORED, Interpolation, ResizedLogits, check_labels
from mmseg_ctx.utils.models import swaps_channels


class Prediction(NamedTuple):
    """An image and what a model predicts for it; H and W are the original image's size."""

    image: np.ndarray  # the model's input, RGB, uint8 [H', W', 3]
    padded_size: tuple  # height and width of the input with padding, which a feature map covers
    predicted: np.ndarray  # classes [H, W]
    label: np.ndarray | None  # the ground truth [H, W], 255 where it is ignored
    classes: tuple  # the names of the classes
    palette: tuple  # the colours of the classes, RGB in 0 to 255
    logits: torch.Tensor  # [N, H, W]; with one output channel, the probability of class 1
    align_corners: bool  # of the segmentor's resizing of logits

    def colours(self, indices):
        """Return the colours of classes as floats of 0 to 1."""
        return np.divide(self.palette, 255)[indices]

    def inside(self, maps):
        """Return the part of maps ``[..., h, w]`` whose cells touch the image, not its padding."""
        sides = zip(maps.shape[-2:], self.image.shape, self.padded_size, strict=False)
        height, width = (-(-cells * pixels // padded) for cells, pixels, padded in sides)
        return maps[..., :height, :width]

    def at(self, maps, pixel):
        """Return the values of maps ``[..., h, w]`` at a pixel of the original image."""
        places = zip(self.seen_pixel(pixel), self.padded_size, maps.shape[-2:], strict=True)
        row, column = (int((place + 0.5) / padded * cells) for place, padded, cells in places)
        return maps[..., row, column]

    def seen_pixel(self, pixel):
        """Return row and column, as floats, of a pixel of the original image in ``image``."""
        places = zip(pixel, self.predicted.shape, self.image.shape, strict=False)
        return tuple((place + 0.5) / original * seen - 0.5 for place, original, seen in places)

    def resize(self, logits, pixel=None):
        """Resize logits ``[N, h, w]`` of the decode head as the segmentor does.

        They become logits of the original image, ``[N, H, W]``, or of a pixel, given by row and
        column, ``[N, 1, 1]``.
        """
        sides = []
        for axis, cells in enumerate(logits.shape[1:]):
            side = Interpolation.identity(cells, logits)
            side = side.resize(self.padded_size[axis], self.align_corners)
            side = side.crop(0, self.image.shape[axis])
            side = side.resize(self.predicted.shape[axis], self.align_corners)
            sides.append([side if pixel is None else side.crop(pixel[axis], pixel[axis] + 1)])
        return ResizedLogits([[logits]], *sides)


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
    sample, test_cfg = copy.deepcopy(item['data_samples']), segmentor.test_cfg
    # Whole images, not windows, and with the full-size logits.
    segmentor.test_cfg = ConfigDict(test_cfg or {}, mode='whole', keep_logits=True)
    try:
        (result,) = segmentor.test_step(dict(inputs=[item['inputs']], data_samples=[sample]))
    finally:
        segmentor.test_cfg = test_cfg
    image = _rgb(item['inputs'], segmentor.data_preprocessor)
    height, width = image.shape[:2]
    _, right, _, bottom = result.get('img_padding_size', (0, 0, 0, 0))
    predicted = result.pred_sem_seg.data[0].cpu().numpy()
    label = item['data_samples'].get('gt_sem_seg')
    if label is not None:
        label = label.data[0].cpu()
        if label.shape != predicted.shape:
            raise ValueError(
                f'the label must be of the size of the image, {predicted.shape}, '
                f'got {tuple(label.shape)}'
            )
        check_labels(label, len(classes), ignore_index)
        label = label.where(label != ignore_index, IGNORED).numpy()
    return Prediction(
        image=image,
        padded_size=(height + bottom, width + right),
        predicted=predicted,
        label=label,
        classes=classes,
        palette=tuple(dataset_meta['palette']),
        logits=result.seg_logits.data,
        align_corners=segmentor.align_corners,
    )


def _rgb(image, preprocessor):
    # Of other numbers of channels, the first three are shown, or one as grey.
    shown = image[: 3 if len(image) >= 3 else 1].expand(3, -1, -1)
    array = shown.permute(1, 2, 0).clamp(0, 255).byte().cpu().numpy()
    # Data sets read images as BGR. Without a swap in the model, the pipeline may have swapped them.
    return array[..., ::-1] if swaps_channels(preprocessor) else array


def most_probable(logits, count=5):
    """Return the most probable classes of each pixel, and their probabilities: ``[k, H, W]``.

    Args:
        logits (Tensor): ``[N, H, W]``; where N is 1, the probability of class 1.
        count (int): How many classes, if there are as many. Default: 5.
    """
    one_class = len(logits) == 1
    values = torch.cat([1 - logits, logits]) if one_class else logits.float().softmax(dim=0)
    values, classes = values.topk(min(count, len(values)), dim=0)
    return classes.cpu().numpy(), values.cpu().numpy()

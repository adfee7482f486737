"""The losses on the validation images, beside the IoU."""

import random
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.runner import autocast
from mmengine.structures import PixelData
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample
from torch import nn

from mmseg_ctx.utils.models import unwrapped


@HOOKS.register_module()
class ValidationLossHook(Hook):
    """Adds the losses of all heads on the validation images to the metrics.

    A config adds it with
    ``default_hooks = dict(validation_loss=dict(type='ValidationLossHook'))``. The metrics, and so
    the log, TensorBoard and ``save_best``, then have ``val_loss``, the sum that training minimises,
    and each of its parts under the name that the training's log has for it, such as
    ``val_decode.loss_ce``, ``val_aux.loss_ce``, ``val_decode.loss_kl`` or ``val_decode.acc_seg``.

    A loss is computed for each image alone, between the logits of the whole image, resized to the
    size of the label, and the label; reported is the mean over the images. It does not depend on
    the batch size or on the number of processes. Batch normalisation uses its running statistics,
    and dropout is off, so the loss of a training image differs from the loss that training logs.
    Samplers of a head (OHEM) choose pixels as in training. Models of this package hold no
    full-size logits for it. A second pass through the network doubles the time of a validation.

    The hook changes neither the model nor the random numbers: a training with and without it has
    the same weights, bit for bit.
    """

    # Before RuntimeInfoHook (VERY_HIGH), which tells the other hooks of the metrics.
    priority = 'HIGHEST'

    def before_val_epoch(self, runner):
        """Forget the losses of the last validation, which may have been interrupted."""
        self._losses = _MeanLosses()

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Compute the losses of each image of a batch.

        Raises:
            ValueError: An image has no label.
        """
        model = unwrapped(runner.model)
        with torch.no_grad(), _unchanged(model), autocast(enabled=runner.val_loop.fp16):
            data = model.data_preprocessor(data_batch, False)
            for image, sample in zip(data['inputs'], data['data_samples'], strict=True):
                losses = model.loss(image[None], [_labelled(sample, model)])
                _, parts = model.parse_losses(losses)  # with their sum, loss
                self._losses.process(None, parts)

    def after_val_epoch(self, runner, metrics=None):
        """Add the mean of each loss to ``metrics``."""
        metrics.update(self._losses.evaluate(len(runner.val_dataloader.dataset)))


class _MeanLosses(BaseMetric):
    """Gathers the losses of images from all processes, each image once."""

    def process(self, data_batch, data_samples):
        """Keep the losses of an image, a dict of tensors in the place of samples."""
        self.results.append({name: float(value) for name, value in data_samples.items()})

    def compute_metrics(self, results):
        return {f'val_{name}': np.mean([each[name] for each in results]) for name in results[0]}


@contextmanager
def _unchanged(model):
    """Let heads return what they return in training; keep the model and all random numbers.

    Some heads and backbones have further outputs in training mode, for losses. They themselves and
    the classifiers are in it: batch normalisation and dropout inside of them are not.
    """
    states = {module: module.training for module in _parts(model)}
    numpy_state, python_state = np.random.get_state(), random.getstate()
    devices = {parameter.device for parameter in model.parameters() if parameter.is_cuda}
    try:
        with torch.random.fork_rng(devices):
            for module in states:
                module.training = True
            yield
    finally:
        for module, state in states.items():
            module.training = state
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def _parts(model):
    for name in ('backbone', 'decode_head', 'auxiliary_head'):
        parts = getattr(model, name, None)
        for part in parts if isinstance(parts, nn.ModuleList) else [parts]:
            yield from filter(None, (part, getattr(part, 'conv_seg', None)))


def _labelled(sample, model):
    """Return a sample with the labels of another, padded where its image is.

    A label has the size of the original image, the image has the size of the network's input. So
    a border of the image is one of the label in proportion.
    """
    if 'gt_sem_seg' not in sample:
        raise ValueError(
            f'ValidationLossHook needs labels, got {sample.get("img_path")} without gt_sem_seg: '
            'is LoadAnnotations in the pipeline of val_dataloader?'
        )
    height, width = sample.img_shape[:2]
    left, right, top, bottom = sample.metainfo.get('img_padding_size', [0] * 4)
    padded = SegDataSample(metainfo=sample.metainfo)
    for name, field in sample.items():
        if name.startswith('gt_'):
            rows, columns = field.data.shape[-2:]
            border = [round(side * columns / width) for side in (left, right)]
            border += [round(side * rows / height) for side in (top, bottom)]
            value = model.data_preprocessor.seg_pad_val
            padded.set_field(PixelData(data=F.pad(field.data, border, value=value)), name)
    return padded

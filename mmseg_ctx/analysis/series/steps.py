"""The steps that are measured: a forward pass, or losses and their gradients.

Inputs are given on the meta device; ``Setting.place`` makes random ones of their shapes.
"""

from functools import partial

import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample

from mmseg_ctx.analysis.benchmark import Comparison
from mmseg_ctx.analysis.complexity import count
from mmseg_ctx.utils.models import build

STRIDE = 8  # pixels between neighbours in the last feature map of all series
STOCK, OURS = 'MMSegmentation', 'memory-efficient'
SEGMENTORS = {STOCK: 'EncoderDecoder', OURS: 'MemoryEfficientEncoderDecoder'}


def compare_forward(title, modules, against, **options):
    """Return the comparison of forward passes without gradients, with their complexity.

    ``modules`` has, by the name of the case, what builds the module on a device, and its inputs.
    """
    cases = {name: partial(_forward_step, *each) for name, each in modules.items()}
    costs = {name: count(make('meta'), *inputs) for name, (make, inputs) in modules.items()}
    return Comparison(title, cases, against, complexity=costs, **options)


def _forward_step(make, inputs, setting):
    module, inputs = setting.place(make(setting.device)).eval(), setting.place(inputs)

    @torch.no_grad()
    def step():
        with setting.autocast():
            return module(*inputs)

    return step


def training_step(losses, module, *inputs, setting):
    """Return the step of a module's losses and of the gradients of its weights and inputs.

    ``losses(*inputs)`` returns the dictionary of a model's losses. The gradients are gone when the
    step ends.
    """
    setting.place(module).train()
    inputs = [each.requires_grad_() for each in setting.place(inputs)]

    def step():
        with setting.autocast():
            entries = losses(*inputs)
        sum(value for name, value in entries.items() if 'loss' in name).backward()
        for leaf in (*module.parameters(), *inputs):
            leaf.grad = None

    return step


def head_step(config, inputs, setting):
    """Return the training step of a head."""
    features, *previous = inputs
    head = build(config, setting.device)
    samples = labelled_samples(features[-1], head.num_classes, setting.device)

    def losses(*maps):
        features, previous = list(maps[:4]), maps[4:]
        return head.loss(features, *previous, samples, train_cfg=None)

    return training_step(losses, head, *features, *previous, setting=setting)


def segmentor(kind, head, setting, test_cfg=None):
    """Return a segmentor, one of ``SEGMENTORS``, whose head reads the images as features."""
    config = dict(
        type=SEGMENTORS[kind],
        data_preprocessor=None,
        backbone=dict(type='ResNet', depth=18, base_channels=1, stem_channels=1),
        decode_head=head,
        test_cfg=ConfigDict(test_cfg or dict(mode='whole')),
    )
    model = build(config, setting.device)
    model.extract_feat = lambda inputs: [inputs]
    return model


def segmentor_step(kind, head, features, setting):
    """Return the training step of such a segmentor."""
    model = segmentor(kind, head, setting)
    samples = labelled_samples(features, model.decode_head.num_classes, setting.device)
    return training_step(lambda maps: model.loss(maps, samples), model, features, setting=setting)


def labelled_samples(maps, classes, device='cpu'):
    """Return a data sample for each of ``maps`` ``[B, C, h, w]``, with labels ``STRIDE`` as large.

    An image has labels of at most twelve classes, in blocks.
    """
    size = STRIDE * maps.size(-1)
    blocks = torch.arange(12.0, device=device).view(1, 1, 4, 3)
    blocks = F.interpolate(blocks, size)[0].long()  # [1, H, W]
    samples = []
    for image in range(len(maps)):
        sample = SegDataSample(metainfo=dict(img_shape=(size, size), ori_shape=(size, size)))
        sample.gt_sem_seg = PixelData(data=(blocks + 12 * image) % classes)
        samples.append(sample)
    return samples


def cross_entropy_of(samples):
    """Return a function from small logits to their losses, one plain cross-entropy."""
    label = torch.cat([sample.gt_sem_seg.data for sample in samples])  # [B, H, W]

    def losses(logits):
        full = resize(logits, label.shape[1:], mode='bilinear', align_corners=False, warning=False)
        return dict(loss=F.cross_entropy(full, label, ignore_index=255))

    return losses

"""The heads and models that are compared, and the features and labels that they learn from."""

from pathlib import Path

import mmseg
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmseg_ctx.utils.methods import HEAD_METHODS, METHODS

CLASSES = 60  # of PASCAL-Context, which the papers use
# Pixels between neighbours in the maps of a dilated ResNet's stages, as in the papers' comparisons.
STRIDES = (4, 8, 8, 8)
PARTS = (8, 4, 2, 1)  # the channels of the last stage divided by each stage's
CHANNELS, WIDTH = 2048, 512
# Heads, and the arguments in which they differ, for these channels and this width. FCN is the
# baseline of all; the papers compare with the others of MMSegmentation's.
COMPARED = {
    'FCNHead': {},
    'PSPHead': {},
    'DMHead': {},
    'APCHead': {},
    'EncHead': dict(in_index=(1, 2, 3)),
    'DNLHead': {},
    **{method.head: method.compared for method in HEAD_METHODS.values()},
}
HEAD_FACTS = [f'{each.head} {each.note}' for each in HEAD_METHODS.values() if each.note]


def head_config(name, channels=CHANNELS, width=WIDTH, classes=CLASSES, **options):
    """Return the config of one of ``COMPARED``, or of another head that reads one map.

    ``channels`` are the channels of the backbone's last stage; ``options`` are further arguments of
    the head, or replace its paper's.
    """
    own = {
        key: (np.array(value) * width // WIDTH).tolist() if key.endswith('channels') else value
        for key, value in COMPARED.get(name, {}).items()
    }
    if stages := own.get('in_index'):
        own['in_channels'] = [channels // PARTS[stage] for stage in stages]
    common = dict(
        type=name,
        in_channels=channels,
        in_index=3,
        channels=width,
        num_classes=classes,
        norm_cfg=dict(type='BN'),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    )
    return {**common, **own, **options}


def feature_maps(batch=1, image=512, channels=CHANNELS, strides=STRIDES):
    """Return what a head reads of images with ``image`` × ``image`` pixels, on the meta device.

    These are a ResNet's four feature maps, ``[B, C / 8, h, w]`` … ``[B, C, h, w]``, in a list.
    """
    sides = [-(-image // stride) for stride in strides]
    return [
        torch.empty(batch, channels // part, side, side, device='meta')
        for part, side in zip(PARTS, sides, strict=True)
    ]


def labelled_samples(batch, size, classes, device='cpu'):
    """Return data samples with labels of a size, of at most twelve classes an image, in blocks."""
    blocks = torch.arange(12.0, device=device).view(1, 1, 4, 3)
    blocks = F.interpolate(blocks, size)[0].long()  # [1, H, W]
    samples = []
    for image in range(batch):
        sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size))
        sample.gt_sem_seg = PixelData(data=(blocks + 12 * image) % classes)
        samples.append(sample)
    return samples


def mmseg_model(name):
    """Return the config of the model in one of MMSegmentation's ADE20K configs.

    It has no pretrained weights. ``name`` is the folder and the file without
    ``_ade20k-512x512.py``, such as ``'upernet/upernet_r50_4xb4-160k'``.
    """
    folder = Path(mmseg.__file__).parent / '.mim/configs'
    model = Config.fromfile(folder / f'{name}_ade20k-512x512.py').model
    return {**model.to_dict(), 'pretrained': None}


def with_cac(model):
    """Return the config of a model whose decode head, or its cascade's last one, is wrapped."""
    heads = model['decode_head']
    *earlier, last = heads if isinstance(heads, list) else [heads]
    wrapped = dict(type=METHODS['cac'].head, head=last)
    return {**model, 'decode_head': [*earlier, wrapped] if earlier else wrapped}

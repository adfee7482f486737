"""The heads and models that are compared, and the features that the heads read."""

from pathlib import Path

import mmseg
import torch
from mmengine.config import Config

CLASSES = 60  # of PASCAL-Context, which all five papers use
# Pixels between neighbours in the maps of a dilated ResNet's stages, as in the papers' comparisons.
STRIDES = (4, 8, 8, 8)
PARTS = (8, 4, 2, 1)  # the channels of the last stage divided by those of each
# FCN is the baseline of all; the papers compare with the others of MMSegmentation's.
COMPARED = (
    'FCNHead',
    'PSPHead',
    'DMHead',
    'APCHead',
    'EncHead',
    'DNLHead',
    'OCRHead',
    'DynamicMultiScaleHead',
    'ContextAdaptiveConvHead',
    'AdaptiveContextHead',
    'ContextTandemHead',
)
# Further stages that a head reads, and parts that are not counted.
HEAD_NOTES = dict(
    AdaptiveContextHead="AdaptiveContextHead also reads the dilated ResNet's stages 1 and 2, of "
    '1/8 and 1/4 of the channels, the former at twice the size.',
    OCRHead='OCRHead is without the FCN head before it.',
)


def head_config(name, channels=2048, width=512, classes=CLASSES, **options):
    """Return the config of one of ``COMPARED``, or of another head that reads one map.

    ``channels`` are those of the backbone's last stage; ``options`` are further arguments of the
    head, or others in place of its paper's.
    """
    stages = [channels // part for part in PARTS]
    widths = (width, width * 7 // 8, width // 2)
    own = dict(
        EncHead=dict(in_channels=stages[1:], in_index=(1, 2, 3)),
        OCRHead=dict(ocr_channels=width // 2),
        AdaptiveContextHead=dict(
            in_channels=[stages[0], stages[1], stages[3]],
            in_index=(0, 1, 3),
            block_channels=widths,
            channels=widths[-1],
        ),
    )
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
    return {**common, **own.get(name, {}), **options}


def head_inputs(config, batch=1, image=512, channels=2048, strides=STRIDES):
    """Return what the head of a config reads of images with ``image`` × ``image`` pixels.

    These are, in a tuple and on the meta device, the list of a ResNet's four feature maps,
    ``[B, C / 8, h, w]`` … ``[B, C, h, w]``, and for a head of a cascade the earlier head's logits
    ``[B, N, h, w]``.
    """
    stages = [channels // part for part in PARTS]
    sides = [-(-image // stride) for stride in strides]
    features = [
        torch.empty(batch, width, side, side, device='meta')
        for width, side in zip(stages, sides, strict=True)
    ]
    if config['type'] != 'OCRHead':
        return (features,)
    return features, features[-1].new_empty(batch, config['num_classes'], sides[-1], sides[-1])


def mmseg_model(name):
    """Return the config of the model in one of MMSegmentation's ADE20K configs.

    It has no pretrained weights. ``name`` is the folder and the file without
    ``_ade20k-512x512.py``, such as ``'upernet/upernet_r50_4xb4-160k'``.
    """
    folder = Path(mmseg.__file__).parent / '.mim/configs'
    model = Config.fromfile(folder / f'{name}_ade20k-512x512.py').model
    return {**model.to_dict(), 'pretrained': None}


def wrapped(head):
    """Return the config of ``ContextAwareClassifierHead`` around the config of a head."""
    if head.get('dropout_ratio') == -1:  # how MMSegmentation's HRNet configs say that there is none
        head = {**head, 'dropout_ratio': 0}
    return dict(type='ContextAwareClassifierHead', head=head)


def with_cac(model):
    """Return the config of a model whose decode head, or its cascade's last one, is wrapped."""
    heads = model['decode_head']
    if isinstance(heads, dict):
        return {**model, 'decode_head': wrapped(heads)}
    return {**model, 'decode_head': [*heads[:-1], wrapped(heads[-1])]}

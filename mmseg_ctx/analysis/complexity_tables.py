"""What every method costs beside its baseline and the paper's figure, and the heads side by side.

Everything is built on the meta device, so that nothing is computed and no memory is needed.
"""

from pathlib import Path
from typing import NamedTuple

import mmseg
import torch
from mmengine.config import Config

from mmseg_ctx.analysis.complexity import count
from mmseg_ctx.analysis.heads import (
    COMPARED,
    STRIDES_8,
    STRIDES_16,
    backbone_features,
    head_config,
    previous_output,
)
from mmseg_ctx.utils.models import build
from mmseg_ctx.utils.tables import Column, Table, billions, millions

COMPLEXITY_COLUMNS = (
    Column('parameters', 'parameters [M]', millions),
    Column('multiply_adds', 'multiply-adds [G]', billions),
)
_PAPER_COLUMNS = (
    Column('source', 'table of'),
    Column('model', 'model'),
    Column('counted', 'counted'),
    COMPLEXITY_COLUMNS[0],
    Column('paper_parameters', 'paper [M]', millions),
    COMPLEXITY_COLUMNS[1],
    Column('paper_multiply_adds', 'paper [G]', billions),
)
HEADS_FACTS = (
    "AdaptiveContextHead also reads the dilated ResNet's stages 1 and 2, of 1/8 and 1/4 of the "
    'channels, the former at twice the size. OCRHead is without the FCN head before it.',
)


class _Row(NamedTuple):
    """A row of the papers' tables: a head on the features of an image, or a model on the image."""

    source: str
    model: str
    counted: str
    config: dict
    parameters: float | None = None  # the paper's, in millions
    multiply_adds: float | None = None  # the paper's, in billions
    without: tuple = ()
    image: int = 512
    strides: tuple | None = None  # of the features; None for a model that reads the image


def _cacnet_rows():
    """CaC-Net, Table 7: 512×512, dilated ResNet-101, 60 classes."""
    backbone = dict(
        type='ResNetV1c',
        depth=101,
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        norm_cfg=dict(type='BN'),
        contract_dilation=True,
    )
    source = 'CaC-Net, Table 7'
    yield _Row(source, 'ResNet-101, dilated', 'backbone', backbone, 56, 225)
    for name, fusion, parameters, multiply_adds in (
        ('APCHead', False, 10, 22),
        ('DMHead', True, 9, 20),
    ):
        yield _Row(
            source,
            f'{name}, {"with" if fusion else "without"} fusion',
            'head without bottleneck and classifier',
            head_config(name, fusion=fusion),
            parameters,
            multiply_adds,
            without=('bottleneck', 'conv_seg'),
            strides=STRIDES_8,
        )
    config = head_config('ContextAdaptiveConvHead')
    yield _Row(source, 'ContextAdaptiveConvHead', 'whole head', config, 5, 21, strides=STRIDES_8)


def _dmnet_rows():
    """DMNet, Table 3: 512×512; Inception and ASPP are the head with fixed filters."""
    for name, parameters, multiply_adds, options in (
        ('Inception: regular filters 1, 3, 5, 7', 26, 104, dict(filter_type='regular')),
        (
            'ASPP: regular filters, dilations 6, 12, 24, 36',
            14,
            56,
            dict(filter_type='regular', filter_sizes=(3, 3, 3, 3), dilations=(6, 12, 24, 36)),
        ),
        ('DynamicMultiScaleHead, with fusion', 9, 20, dict(fusion=True)),
    ):
        yield _Row(
            'DMNet, Table 3',
            name,
            'head without bottleneck and classifier',
            head_config('DynamicMultiScaleHead', **options),
            parameters,
            multiply_adds,
            without=('bottleneck', 'conv_seg'),
            strides=STRIDES_8,
        )


def _ctnet_rows():
    """CTNet, Table 3: 513×513, dilated ResNet, PASCAL-Context."""
    common = dict(source='CTNet, Table 3', image=513, strides=STRIDES_8)
    aspp = dict(dilations=(1, 12, 24, 36), width=256)
    for name, config, parameters, multiply_adds in (
        ('PSPHead', head_config('PSPHead'), 23.09, 79.88),
        ('ASPPHead (DeepLabV3)', head_config('ASPPHead', **aspp), 16.13, 65.95),
        ('DAHead (DANet)', head_config('DAHead', pam_channels=64), 23.96, 101.23),
    ):
        yield _Row(
            model=name,
            counted='whole head',
            config=config,
            parameters=parameters,
            multiply_adds=multiply_adds,
            **common,
        )
    for name, mode, multiply_adds in (
        ('ContextTandemHead, spatial only (OSCM)', 'spatial', 29.63),
        ('ContextTandemHead', 'tandem', 29.64),
    ):
        yield _Row(
            model=name,
            counted='head without the 3×3 convolution that reads the backbone',
            config=head_config('ContextTandemHead', mode=mode),
            parameters=7.11,
            multiply_adds=multiply_adds,
            without=('input_conv',),
            **common,
        )


def _acnet_rows():
    """ACNet gives no figures; its encoder has output stride 16."""
    for name in ('FCNHead', 'AdaptiveContextHead'):
        yield _Row('ACNet (no figure)', name, 'whole head', head_config(name), strides=STRIDES_16)


# Table 1 of CAC: parameters with and without, and MMSegmentation's config of the baseline.
_CAC_MODELS = (
    ('FCN, MobileNetV2', 9.82, 10.61, 'mobilenet_v2/mobilenet-v2-d8_fcn_4xb4-160k'),
    (
        'DeepLabV3+, MobileNetV2',
        15.35,
        16.13,
        'mobilenet_v2/mobilenet-v2-d8_deeplabv3plus_4xb4-160k',
    ),
    ('OCRNet, HRNet-W18', 12.18, 12.97, 'ocrnet/ocrnet_hr18_4xb4-160k'),
    ('UPerNet, ResNet-50', 66.52, 67.30, 'upernet/upernet_r50_4xb4-160k'),
    ('DeepLabV3+, ResNet-50', 43.69, 44.48, 'deeplabv3plus/deeplabv3plus_r50-d8_4xb4-160k'),
    ('OCRNet, HRNet-W48', 70.53, 71.32, 'ocrnet/ocrnet_hr48_4xb4-160k'),
    ('UPerNet, ResNet-101', 85.51, 86.30, 'upernet/upernet_r101_4xb4-160k'),
    ('DeepLabV3+, ResNet-101', 62.68, 63.47, 'deeplabv3plus/deeplabv3plus_r101-d8_4xb4-160k'),
    ('UPerNet, Swin-T', 59.94, 60.73, 'swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k'),
    (
        'UPerNet, Swin-B',
        121.42,
        122.20,
        'swin/swin-base-patch4-window12-in22k-384x384-pre_upernet_8xb2-160k',
    ),
    (
        'UPerNet, Swin-L',
        233.96,
        234.75,
        'swin/swin-large-patch4-window12-in22k-384x384-pre_upernet_8xb2-160k',
    ),
)


def mmseg_model(name):
    """Return the model of one of MMSegmentation's ADE20K configs, with batch norm on one device.

    Args:
        name (str): Folder and file without ``_ade20k-512x512.py``, such as
            ``'upernet/upernet_r50_4xb4-160k'``.

    Returns:
        dict: For MMSegmentation's ``MODELS``, without pretrained weights.
    """
    folder = Path(mmseg.__file__).parent / '.mim/configs'
    model = Config.fromfile(folder / f'{name}_ade20k-512x512.py').model.to_dict()
    model.update(pretrained=None)
    return _with_batch_norm(model)


def _with_batch_norm(config):
    if isinstance(config, dict):
        config = {key: _with_batch_norm(value) for key, value in config.items()}
        return {**config, 'type': 'BN'} if config.get('type') == 'SyncBN' else config
    if isinstance(config, (list, tuple)):
        return type(config)(map(_with_batch_norm, config))
    return config


def with_cac(model):
    """Return the config of a model with its decode head, or its cascade's last one, wrapped.

    Args:
        model (dict): Of MMSegmentation's ``MODELS``.

    Returns:
        dict: The same with ``ContextAwareClassifierHead``.
    """
    heads = model['decode_head']
    if isinstance(heads, dict):
        return {**model, 'decode_head': wrapped(heads)}
    return {**model, 'decode_head': [*heads[:-1], wrapped(heads[-1])]}


def wrapped(head):
    """Return the config of ``ContextAwareClassifierHead`` around the config of a head."""
    return dict(type='ContextAwareClassifierHead', head=head)


def _cac_rows():
    """CAC, Table 1: ADE20K, 512×512."""
    for name, without, with_, config in _CAC_MODELS:
        model = mmseg_model(config)
        counted = 'model with auxiliary head; multiply-adds of inference'
        yield _Row('CAC, Table 1', name, counted, model, without)
        yield _Row('CAC, Table 1', f'{name}, with CAC', counted, with_cac(model), with_)


def _measured(row):
    """Return a row of the table, the counts beside the paper's."""
    module = build(row.config)
    if row.strides is None:
        inputs = (torch.empty(1, 3, row.image, row.image, device='meta'),)
    else:
        features = backbone_features(image=row.image, strides=row.strides)
        inputs = (features, *previous_output(row.config, features))
    cost = count(module, *inputs, without=row.without)
    return dict(
        source=row.source,
        model=row.model,
        counted=row.counted,
        input=[row.image, row.image],
        **cost._asdict(),
        paper_parameters=row.parameters and round(row.parameters * 1e6),
        paper_multiply_adds=row.multiply_adds and round(row.multiply_adds * 1e9),
    )


def papers_table():
    """Count every method beside its baseline, as its paper counts.

    Returns:
        Table: CaC-Net's Table 7, DMNet's Table 3, CTNet's Table 3, CAC's Table 1, and ACNet, whose
        paper has no figures.
    """
    rows = [*_cacnet_rows(), *_dmnet_rows(), *_ctnet_rows(), *_acnet_rows(), *_cac_rows()]
    return Table(
        'Parameters and multiply-adds, as measured and in the papers',
        _PAPER_COLUMNS,
        list(map(_measured, rows)),
        (
            'The convolutions and matrix products of one image, those with weights made from the '
            'image included; element-wise operations are not counted.',
            'CTNet at 513×513, everything else at 512×512. Heads read a 1/8 map of 2048 channels, '
            "ACNet's and the FCN beside it a 1/16 map; 60 classes, CAC 150.",
        ),
    )


def heads_table():
    """Count the heads of the plugin and MMSegmentation's on the same features.

    Returns:
        Table: Of ``COMPARED``, for ``[1, 2048, 64, 64]`` and the stages before it.
    """
    features = backbone_features()
    rows = []
    for name in COMPARED:
        config = head_config(name)
        cost = count(build(config), features, *previous_output(config, features))
        rows.append(dict(model=name, **cost._asdict()))
    return Table(
        'Heads on [1, 2048, 64, 64], 60 classes',
        (Column('model', 'head'), *COMPLEXITY_COLUMNS),
        rows,
        HEADS_FACTS,
    )

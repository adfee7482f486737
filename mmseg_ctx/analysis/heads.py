"""The decode heads that are compared, all on the same backbone features."""

import torch

CLASSES = 60  # of PASCAL-Context, which all five papers use
# Of a dilated ResNet, the backbone of the papers' comparisons; ACNet's is STRIDES_16.
STRIDES_8 = (4, 8, 8, 8)
STRIDES_16 = (4, 8, 16, 16)


def stage_channels(channels=2048):
    """Return the channels of a ResNet's four stages, of which the last has ``channels``."""
    return [channels // 8, channels // 4, channels // 2, channels]


def backbone_features(batch=1, image=512, channels=2048, strides=STRIDES_8, device='meta'):
    """Make random features as a ResNet's four stages give them.

    Args:
        batch (int): B. Default: 1.
        image (int): Side of the images, in pixels. Default: 512.
        channels (int): C of the last stage. Default: 2048.
        strides (Sequence[int]): Pixels between neighbours in each stage's map. Default: those of
            output stride 8.
        device (str | torch.device): Where. Default: ``'meta'``.

    Returns:
        list[Tensor]: ``[B, C / 8, h, w]`` … ``[B, C, h, w]``, finest first.
    """
    return [
        torch.rand(batch, width, -(-image // stride), -(-image // stride), device=device)
        for width, stride in zip(stage_channels(channels), strides, strict=True)
    ]


def head_config(name, channels=2048, width=512, classes=CLASSES, **options):
    """Return the config of a head on the last stage, with the settings of its paper.

    Args:
        name (str): Of the head in the registry, one of ``COMPARED`` or another that reads one map.
        channels (int): C of the backbone's last stage. Default: 2048.
        width (int): Width of the head. Default: 512.
        classes (int): N. Default: 60.
        **options: Further arguments of the head; they take the place of these settings.

    Returns:
        dict: For MMSegmentation's ``MODELS``.
    """
    stages = stage_channels(channels)
    settings = dict(
        type=name,
        in_channels=channels,
        in_index=3,
        channels=width,
        num_classes=classes,
        norm_cfg=dict(type='BN'),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    )
    if name == 'EncHead':
        settings.update(in_channels=stages[1:], in_index=(1, 2, 3))
    if name == 'OCRHead':
        settings.update(ocr_channels=width // 2)
    if name == 'AdaptiveContextHead':
        widths = (width, width * 7 // 8, width // 2)
        settings.update(
            in_channels=[stages[0], stages[1], stages[3]],
            in_index=(0, 1, 3),
            block_channels=widths,
            channels=widths[-1],
        )
    return {**settings, **options}


# FCN is the baseline of all; the others of MMSegmentation's are those that the papers compare with.
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


def previous_output(config, features):
    """Return what a head of a cascade reads beside the features, for any other head nothing.

    Args:
        config (dict): The head's config.
        features (list[Tensor]): The backbone's features.

    Returns:
        tuple[Tensor]: The earlier head's logits ``[B, N, h, w]``, or empty.
    """
    if config['type'] != 'OCRHead':
        return ()
    last = features[-1]
    return (last.new_empty(last.size(0), config['num_classes'], *last.shape[2:]).normal_(),)

# A ResNet-18 of a quarter of the width and three stages, at 1/4, 1/8 and 1/8 of the image's side.
# It is trained from scratch and sees little of its surroundings: the context is left to the head.
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    type='MemoryEfficientEncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size_divisor=8,
    ),
    backbone=dict(
        type='ResNet',
        depth=18,
        stem_channels=16,
        base_channels=16,
        num_stages=3,
        strides=(1, 2, 1),
        dilations=(1, 1, 1),
        out_indices=(0, 1, 2),
        norm_cfg=norm_cfg,
    ),
    decode_head=dict(
        type='FCNHead',
        in_channels=64,
        in_index=2,
        channels=64,
        num_convs=1,
        concat_input=False,
        num_classes=14,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)

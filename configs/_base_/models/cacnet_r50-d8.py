_base_ = './resnet50_d8.py'
model = dict(
    decode_head=dict(
        type='ContextAdaptiveConvHead',
        in_channels=2048,
        in_index=3,
        channels=512,
        kernel_sizes=(3, 3),
        dilations=(1, 2, 3),
        dropout_ratio=0.1,
        norm_cfg=_base_.norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    )
)

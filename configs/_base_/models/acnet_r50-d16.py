# The paper trains without the auxiliary head on ResNet-50, with it on ResNet-101.
_base_ = './resnet50_d16.py'
model = dict(
    decode_head=dict(
        type='AdaptiveContextHead',
        in_channels=(256, 512, 2048),
        in_index=(0, 1, 3),
        block_channels=(512, 448, 256),
        dropout_ratio=0.1,
        norm_cfg=_base_.norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    )
)

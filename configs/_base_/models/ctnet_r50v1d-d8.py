# CTNet on a dilated ResNet-50-D. The head has no dropout and the auxiliary head is as wide as its
# input, as in the authors' code; their released weights are for images normalised with mean and
# deviation 127.5.
_base_ = './resnet50_d8.py'
model = dict(
    pretrained='mmcls://resnet50_v1d',
    backbone=dict(type='ResNetV1d', contract_dilation=False),
    decode_head=dict(
        type='ContextTandemHead',
        in_channels=2048,
        in_index=3,
        channels=512,
        key_channels=256,
        dropout_ratio=0.0,
        norm_cfg=_base_.norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
        loss_class_probability=dict(type='ClassProbabilityLoss', loss_weight=0.1),
    ),
    auxiliary_head=dict(
        channels=1024,
        kernel_size=1,
        dropout_ratio=0.0,
        loss_decode=dict(loss_weight=0.3),
    ),
)

# CTNet on HRNet-W48: both heads read its four branches as one map at 1/4.
_base_ = './ocrnet_hr48.py'
model = dict(
    _delete_=True,
    type='MemoryEfficientEncoderDecoder',
    data_preprocessor=_base_.model.data_preprocessor,
    pretrained=_base_.model.pretrained,
    backbone=_base_.model.backbone,
    decode_head=dict(
        _base_.stages,
        type='ContextTandemHead',
        in_channels=_base_.channels,
        channels=512,
        key_channels=256,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
        loss_class_probability=dict(type='ClassProbabilityLoss', loss_weight=0.1),
    ),
    auxiliary_head=dict(
        _base_.model.decode_head[0],
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.3),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)

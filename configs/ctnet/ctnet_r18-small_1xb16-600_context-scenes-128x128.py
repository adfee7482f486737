# CTNet in small on the context scenes: no paper's figures, runs on a CPU.
_base_ = '../fcn/fcn_r18-small_1xb16-600_context-scenes-128x128.py'
model = dict(
    decode_head=dict(
        _delete_=True,
        type='ContextTandemHead',
        in_channels=_base_.model.decode_head.in_channels,
        in_index=_base_.model.decode_head.in_index,
        channels=64,
        key_channels=32,
        num_classes=_base_.model.decode_head.num_classes,
        norm_cfg=_base_.norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
        loss_class_probability=dict(type='ClassProbabilityLoss', loss_weight=0.1),
    )
)

_base_ = '../fcn/fcn_r18-small_1xb16-600_context-scenes-128x128.py'
model = dict(
    decode_head=dict(
        _delete_=True,
        type='DynamicMultiScaleHead',
        in_channels=64,
        in_index=2,
        channels=64,
        num_classes=14,
        norm_cfg={{_base_.norm_cfg}},
        align_corners=False,
    ),
)

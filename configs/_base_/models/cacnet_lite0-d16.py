_base_ = './fcn_lite0-d16.py'
model = dict(
    decode_head=dict(
        _delete_=True,
        type='ContextAdaptiveConvHead',
        in_channels=(40, 112, 320),
        in_index=(1, 2, 3),
        input_transform='resize_concat',
        channels=128,
        num_classes=11,
        norm_cfg=_base_.norm_cfg,
        align_corners=False,
        loss_decode=_base_.model.decode_head.loss_decode,
    )
)

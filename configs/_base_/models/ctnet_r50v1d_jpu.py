# CTNet on a ResNet-50-D of stride 32, which joint pyramid upsampling brings back to 1/8.
_base_ = './ctnet_r50v1d-d8.py'
model = dict(
    backbone=dict(strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1), out_indices=(1, 2, 3)),
    neck=dict(
        type='JPU',
        in_channels=(512, 1024, 2048),
        mid_channels=512,
        dilations=(1, 2, 4, 8),
        align_corners=False,
        norm_cfg=_base_.norm_cfg,
    ),
    decode_head=dict(in_index=2),
    auxiliary_head=dict(in_index=1),
)

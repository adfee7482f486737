# ACNet on CamVid at full size, for one GPU. Not trained here.
# The encoder's stride is 16, as in the paper: the head itself brings the features back to 4.
_base_ = '../fcn/fcn_r50-d8_1xb16-10k_camvid-360x480.py'
model = dict(
    backbone=dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), contract_dilation=False),
    decode_head=dict(
        _delete_=True,
        type='AdaptiveContextHead',
        in_channels=(256, 512, 2048),
        in_index=(0, 1, 3),
        block_channels=(512, 448, 256),
        dropout_ratio=0.1,
        num_classes=11,
        norm_cfg=_base_.norm_cfg,
        align_corners=False,
    ),
)

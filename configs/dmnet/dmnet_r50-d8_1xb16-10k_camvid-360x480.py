# DMNet on CamVid at full size, for one GPU. Not trained here.
_base_ = '../fcn/fcn_r50-d8_1xb16-10k_camvid-360x480.py'
model = dict(
    decode_head=dict(
        _delete_=True,
        type='DynamicMultiScaleHead',
        in_channels=2048,
        in_index=3,
        channels=512,
        # As in the paper's configs; the small model leaves it out to stay small.
        fusion=True,
        dropout_ratio=0.1,
        num_classes=11,
        norm_cfg=_base_.norm_cfg,
        align_corners=False,
    )
)

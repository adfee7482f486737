# DMNet in small on CamVid: no paper's figures, runs on a CPU.
_base_ = '../fcn/fcn_r18-small_1xb8-1500_camvid-160x208.py'
model = dict(
    decode_head=dict(
        _delete_=True,
        type='DynamicMultiScaleHead',
        in_channels=64,
        in_index=2,
        channels=64,
        num_classes=11,
        norm_cfg=_base_.norm_cfg,
        align_corners=False,
    )
)

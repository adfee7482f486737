# ACNet in small on CamVid: no paper's figures, runs on a CPU.
_base_ = '../fcn/fcn_r18-small_1xb8-1500_camvid-160x208.py'
model = dict(
    decode_head=dict(
        _delete_=True,
        type='AdaptiveContextHead',
        in_channels=(16, 32, 64),
        in_index=(0, 1, 2),
        block_channels=(64, 56, 32),
        num_classes=11,
        norm_cfg=_base_.norm_cfg,
        align_corners=False,
    )
)
# Half the other heads' rate: at theirs the globally pooled feature is not learned to be used.
optim_wrapper = dict(optimizer=dict(lr=1.5e-3))

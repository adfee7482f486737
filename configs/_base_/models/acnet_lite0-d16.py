_base_ = './fcn_lite0-d16.py'
model = dict(
    decode_head=dict(
        _delete_=True,
        type='AdaptiveContextHead',
        # As in the paper, the head begins at 1/16, and itself adds the maps of 1/8 and 1/4.
        in_channels=(24, 40, 320),
        in_index=(0, 1, 3),
        block_channels=(128, 96, 64),
        num_classes=11,
        norm_cfg=_base_.norm_cfg,
        align_corners=False,
        loss_decode=_base_.model.decode_head.loss_decode,
    )
)

# ACNet in small, with the widths of its blocks in the paper's proportions, on the context scenes:
# no paper's figures, runs on a CPU.
_base_ = [
    '../_base_/models/fcn_r18-small.py',
    '../_base_/datasets/context_scenes.py',
    '../_base_/schedules/schedule_context_scenes.py',
    '../_base_/default_runtime.py',
]
model = dict(
    decode_head=dict(
        _delete_=True,
        type='AdaptiveContextHead',
        in_channels=(16, 32, 64),
        in_index=(0, 1, 2),
        block_channels=(64, 56, 32),
        num_classes=14,
        norm_cfg=_base_.norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    )
)
# Half the other heads' rate: at theirs the globally pooled feature is not learned to be used.
optim_wrapper = dict(optimizer=dict(lr=5e-3))

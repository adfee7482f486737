# CaC-Net in small, on the context scenes: no paper's figures, runs on a CPU.
_base_ = [
    '../_base_/models/fcn_r18-small.py',
    '../_base_/datasets/context_scenes.py',
    '../_base_/schedules/schedule_context_scenes.py',
    '../_base_/default_runtime.py',
]
model = dict(
    decode_head=dict(
        _delete_=True,
        type='ContextAdaptiveConvHead',
        in_channels=64,
        in_index=2,
        channels=64,
        num_classes=14,
        norm_cfg=_base_.norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    )
)

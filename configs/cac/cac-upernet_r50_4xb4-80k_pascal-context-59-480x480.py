# CAC with UPerNet on ResNet-50 on PASCAL-Context, whose figures are in the supplement of the paper
# (Section 4.1).
_base_ = [
    '../_base_/models/upernet_r50.py',
    '../_base_/datasets/pascal_context_59.py',
    '../_base_/schedules/schedule_80k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    test_cfg=dict(mode='slide', crop_size=(480, 480), stride=(320, 320)),
    decode_head=dict(
        _delete_=True,
        type='ContextAwareClassifierHead',
        head=dict(_base_.model.decode_head, num_classes=59),
    ),
    auxiliary_head=dict(num_classes=59),
)
optim_wrapper = dict(optimizer=dict(lr=0.004))

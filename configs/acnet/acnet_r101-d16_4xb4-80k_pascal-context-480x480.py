# ACNet on ResNet-101, Table 7: 54.1 mIoU.
_base_ = [
    '../_base_/models/acnet_r50-d16.py',
    '../_base_/datasets/pascal_context.py',
    '../_base_/schedules/schedule_80k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    pretrained='open-mmlab://resnet101_v1c',
    backbone=dict(depth=101),
    test_cfg=dict(mode='slide', crop_size=(480, 480), stride=(320, 320)),
    decode_head=dict(num_classes=60),
    auxiliary_head=dict(num_classes=60),
)
optim_wrapper = dict(optimizer=dict(lr=0.001))
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1]['transforms'][0] = [
    dict(type='Resize', scale_factor=s, keep_ratio=True)
    for s in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25)
]

# ACNet on ResNet-101, Table 8: 40.1 mIoU.
_base_ = [
    '../_base_/models/acnet_r50-d16.py',
    '../_base_/datasets/coco_stuff10k.py',
    '../_base_/schedules/schedule_20k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    pretrained='open-mmlab://resnet101_v1c',
    backbone=dict(depth=101),
    decode_head=dict(num_classes=171),
    auxiliary_head=dict(num_classes=171),
)
optim_wrapper = dict(optimizer=dict(lr=0.001))
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1]['transforms'][0] = [
    dict(type='Resize', scale_factor=s, keep_ratio=True)
    for s in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25)
]
iterations = 40_000
param_scheduler = [dict(_base_.param_scheduler[0], end=iterations)]
train_cfg = dict(max_iters=iterations, val_interval=iterations // 10)
default_hooks = dict(checkpoint=dict(interval=iterations // 10))

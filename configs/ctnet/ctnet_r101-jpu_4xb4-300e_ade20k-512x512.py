# CTNet on ResNet-101 with JPU, Table 8: 45.94 mIoU.
_base_ = [
    '../_base_/models/ctnet_r50_jpu.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/schedule_20k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    pretrained='open-mmlab://resnet101_v1c',
    backbone=dict(depth=101),
    decode_head=dict(num_classes=150),
    auxiliary_head=dict(num_classes=150),
)
train_pipeline = [
    *_base_.train_pipeline[:-1],
    dict(type='RandomRotate', prob=1.0, degree=10),
    _base_.train_pipeline[-1],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(optimizer=dict(lr=0.005))
# 300 epochs × 20,210 images / 16 images an iteration = 378,937.5.
iterations = 378_938
# A tenth, rounded up: the last interval ends where the training ends.
interval = 37_894
param_scheduler = [dict(_base_.param_scheduler[0], end=iterations)]
train_cfg = dict(max_iters=iterations, val_interval=interval)
default_hooks = dict(checkpoint=dict(interval=interval))

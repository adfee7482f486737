# CTNet on ResNet-50 with JPU, Table 7: 52.9 mIoU.
_base_ = [
    '../_base_/models/ctnet_r50_jpu.py',
    '../_base_/datasets/pascal_context.py',
    '../_base_/schedules/schedule_20k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    test_cfg=dict(mode='slide', crop_size=(480, 480), stride=(320, 320)),
    decode_head=dict(num_classes=60),
    auxiliary_head=dict(num_classes=60),
)
train_pipeline = [
    *_base_.train_pipeline[:-1],
    dict(type='RandomRotate', prob=1.0, degree=10),
    _base_.train_pipeline[-1],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(optimizer=dict(lr=0.001))
# 250 epochs × 4,998 images / 16 images an iteration = 78,093.75.
iterations = 78_094
# A tenth, rounded up: the last interval ends where the training ends.
interval = 7_810
param_scheduler = [dict(_base_.param_scheduler[0], end=iterations)]
train_cfg = dict(max_iters=iterations, val_interval=interval)
default_hooks = dict(checkpoint=dict(interval=interval))

# CaC-Net on ResNet-50, Tables 1 and 8: 52.5 mIoU.
_base_ = [
    '../_base_/models/cacnet_r50-d8.py',
    '../_base_/datasets/pascal_context_512x512.py',
    '../_base_/schedules/schedule_20k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
    decode_head=dict(num_classes=60),
    auxiliary_head=dict(num_classes=60),
)
optim_wrapper = dict(optimizer=dict(lr=0.001))
# 120 epochs × 4,998 images / 16 images an iteration = 37,485.
iterations = 37_485
# A tenth, rounded up: the last interval ends where the training ends.
interval = 3_749
param_scheduler = [dict(_base_.param_scheduler[0], end=iterations)]
train_cfg = dict(max_iters=iterations, val_interval=interval)
default_hooks = dict(checkpoint=dict(interval=interval))

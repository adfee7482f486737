# CaC-Net on ResNet-101, Table 9: 46.12 mIoU.
_base_ = [
    '../_base_/models/cacnet_r50-d8.py',
    '../_base_/datasets/ade20k_576x576.py',
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
optim_wrapper = dict(optimizer=dict(lr=0.004))
# 180 epochs × 20,210 images / 16 images an iteration = 227,362.5.
iterations = 227_363
# A tenth, rounded up: the last interval ends where the training ends.
interval = 22_737
param_scheduler = [dict(_base_.param_scheduler[0], end=iterations)]
train_cfg = dict(max_iters=iterations, val_interval=interval)
default_hooks = dict(checkpoint=dict(interval=interval))

# DMNet on ResNet-101, Table 8: 54.4 mIoU.
_base_ = [
    '../_base_/models/dmnet_r50-d8.py',
    '../_base_/datasets/pascal_context_512x512.py',
    '../_base_/schedules/schedule_20k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    pretrained='open-mmlab://resnet101_v1c',
    backbone=dict(depth=101),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
    decode_head=dict(num_classes=60),
    auxiliary_head=dict(num_classes=60),
)
optim_wrapper = dict(optimizer=dict(lr=0.005))
# 80 epochs × 4,998 images / 16 images an iteration = 24,990.
iterations = 24_990
param_scheduler = [dict(_base_.param_scheduler[0], end=iterations)]
train_cfg = dict(max_iters=iterations, val_interval=iterations // 10)
default_hooks = dict(checkpoint=dict(interval=iterations // 10))

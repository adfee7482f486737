# CTNet on ResNet-101 with JPU; Table 9 has 85.3 mIoU on the test server after fine-tuning.
_base_ = [
    '../_base_/models/ctnet_r50_jpu.py',
    '../_base_/datasets/pascal_voc12_aug.py',
    '../_base_/schedules/schedule_20k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    pretrained='open-mmlab://resnet101_v1c',
    backbone=dict(depth=101),
    decode_head=dict(num_classes=21),
    auxiliary_head=dict(num_classes=21),
)
train_pipeline = [
    *_base_.train_pipeline[:-1],
    dict(type='RandomRotate', prob=1.0, degree=10),
    _base_.train_pipeline[-1],
]
train_dataloader = dict(
    dataset=dict(
        datasets=[
            dict(part, pipeline=train_pipeline) for part in _base_.train_dataloader.dataset.datasets
        ]
    )
)
optim_wrapper = dict(optimizer=dict(lr=0.001))
# 250 epochs × 10,582 images / 16 images an iteration = 165,343.75.
iterations = 165_344
# A tenth, rounded up: the last interval ends where the training ends.
interval = 16_535
param_scheduler = [dict(_base_.param_scheduler[0], end=iterations)]
train_cfg = dict(max_iters=iterations, val_interval=interval)
default_hooks = dict(checkpoint=dict(interval=interval))

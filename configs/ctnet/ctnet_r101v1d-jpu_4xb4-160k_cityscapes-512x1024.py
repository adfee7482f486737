# CTNet on ResNet-101-D with JPU, Cityscapes settings of the authors' released code; the paper
# has no figures for it.
_base_ = [
    '../_base_/models/ctnet_r50v1d_jpu.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/schedules/schedule_160k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    pretrained='mmcls://resnet101_v1d',
    backbone=dict(depth=101),
    decode_head=dict(num_classes=19),
    auxiliary_head=dict(num_classes=19),
)
train_pipeline = [
    *_base_.train_pipeline[:-1],
    dict(type='RandomRotate', prob=1.0, degree=10),
    _base_.train_pipeline[-1],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

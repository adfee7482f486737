# CaC-Net on ResNet-101, Table 9: 46.12 mIoU.
_base_ = [
    '../_base_/models/cacnet_r50-d8.py',
    '../_base_/datasets/ade20k_576x576.py',
    '../_base_/schedules/schedule_180e_ade20k.py',
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

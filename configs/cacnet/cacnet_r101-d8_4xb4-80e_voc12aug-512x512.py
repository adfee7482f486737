# Section 4.3: the first of two stages; Table 10 is after the second.
_base_ = [
    '../_base_/models/cacnet_r50-d8.py',
    '../_base_/datasets/pascal_voc12_aug.py',
    '../_base_/schedules/schedule_80e_voc12aug.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    pretrained='open-mmlab://resnet101_v1c',
    backbone=dict(depth=101),
    decode_head=dict(num_classes=21),
    auxiliary_head=dict(num_classes=21),
)
optim_wrapper = dict(optimizer=dict(lr=0.002))

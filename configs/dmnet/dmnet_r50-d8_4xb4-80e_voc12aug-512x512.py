# DMNet on ResNet-50, Tables 1 and 5: 78.21 mIoU.
_base_ = [
    '../_base_/models/dmnet_r50-d8.py',
    '../_base_/datasets/pascal_voc12_aug.py',
    '../_base_/schedules/schedule_80e_voc12aug.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    decode_head=dict(num_classes=21),
    auxiliary_head=dict(num_classes=21),
)

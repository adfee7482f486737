# CaC-Net on ResNet-50, Tables 1 and 8: 52.5 mIoU.
_base_ = [
    '../_base_/models/cacnet_r50-d8.py',
    '../_base_/datasets/pascal_context_512x512.py',
    '../_base_/schedules/schedule_120e_pascal_context.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
    decode_head=dict(num_classes=60),
    auxiliary_head=dict(num_classes=60),
)
optim_wrapper = dict(optimizer=dict(lr=0.001))

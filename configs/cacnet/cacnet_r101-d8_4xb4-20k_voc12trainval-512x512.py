# Section 4.3 and Table 10: fine-tuning on the original train and val; 85.1 mIoU on the test server.
# The paper gives no rate or length for it: a tenth of the first stage, 20k iterations.
_base_ = [
    '../_base_/models/cacnet_r50-d8.py',
    '../_base_/datasets/pascal_voc12_trainval.py',
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
optim_wrapper = dict(optimizer=dict(lr=0.0002))
load_from = 'work_dirs/cacnet_r101-d8_4xb4-80e_voc12aug-512x512/iter_52910.pth'

# ACNet on ResNet-50 without random scales, Table 3: 76.53 mIoU.
_base_ = [
    '../_base_/models/acnet_r50-d16.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/schedules/schedule_80k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    decode_head=dict(num_classes=19),
    auxiliary_head=None,
)
train_pipeline = [step for step in _base_.train_pipeline if step['type'] != 'RandomResize']
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(optimizer=dict(lr=0.005))
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1]['transforms'][0] = [
    dict(type='Resize', scale_factor=s, keep_ratio=True)
    for s in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25)
]

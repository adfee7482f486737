# CAC with UPerNet on ResNet-50 on Cityscapes, whose figures are in the supplement of the paper
# (Section 4.1).
_base_ = [
    '../_base_/models/upernet_r50.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/schedules/schedule_80k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    decode_head=dict(
        _delete_=True,
        type='ContextAwareClassifierHead',
        head=dict(_base_.model.decode_head, num_classes=19),
    ),
    auxiliary_head=dict(num_classes=19),
)
# The photometric distortion is MMSegmentation's.
train_pipeline = _base_.train_pipeline
train_pipeline.insert(-1, dict(type='PhotoMetricDistortion'))
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(optimizer=dict(weight_decay=5e-4))

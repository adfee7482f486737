# CAC with DeepLabV3+ on ResNet-50, Table 1: 42.99 mIoU, 43.97 with scales and flip.
_base_ = [
    '../_base_/models/deeplabv3plus_r50-d8.py',
    '../_base_/datasets/coco_stuff164k.py',
    '../_base_/schedules/schedule_160k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    decode_head=dict(
        _delete_=True,
        type='ContextAwareClassifierHead',
        head=dict(_base_.model.decode_head, num_classes=171),
    ),
    auxiliary_head=dict(num_classes=171),
)
optim_wrapper = dict(optimizer=dict(weight_decay=5e-4))

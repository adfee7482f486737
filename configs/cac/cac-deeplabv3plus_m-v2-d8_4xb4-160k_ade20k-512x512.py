# CAC with DeepLabV3+ on MobileNetV2, Table 1: 39.34 mIoU, 41.28 with scales and flip.
_base_ = [
    '../_base_/models/deeplabv3plus_m-v2-d8.py',
    '../_base_/datasets/ade20k_photometric.py',
    '../_base_/schedules/schedule_160k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    decode_head=dict(
        _delete_=True,
        type='ContextAwareClassifierHead',
        head=dict(_base_.model.decode_head, num_classes=150),
    ),
    auxiliary_head=dict(num_classes=150),
)
optim_wrapper = dict(optimizer=dict(weight_decay=5e-4))

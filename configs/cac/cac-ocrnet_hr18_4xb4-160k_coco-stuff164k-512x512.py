# CAC with OCRNet on HRNet-W18, Table 1: 39.12 mIoU, 40.65 with scales and flip.
_base_ = [
    '../_base_/models/ocrnet_hr18.py',
    '../_base_/datasets/coco_stuff164k.py',
    '../_base_/schedules/schedule_160k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    decode_head=[
        dict(_base_.model.decode_head[0], num_classes=171),
        dict(
            type='ContextAwareClassifierHead',
            head=dict(_base_.model.decode_head[1], num_classes=171),
        ),
    ],
)
optim_wrapper = dict(optimizer=dict(weight_decay=5e-4))

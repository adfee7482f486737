# CAC with UPerNet on Swin-L (ImageNet-22K), Table 1: 48.82 mIoU, 50.00 with scales and flip.
_base_ = [
    '../_base_/models/upernet_swin-l-384.py',
    '../_base_/datasets/coco_stuff164k.py',
    '../_base_/schedules/schedule_160k_swin.py',
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
train_dataloader = dict(batch_size=2)

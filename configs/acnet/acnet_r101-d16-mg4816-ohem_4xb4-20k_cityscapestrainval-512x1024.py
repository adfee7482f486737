# Table 4: fine-tuning on the fine labels of train and val; 82.3 mIoU on the test server. The paper
# gives no rate or length for it: a tenth of the first stage, 20k iterations.
_base_ = [
    '../_base_/models/acnet_r50-d16.py',
    '../_base_/datasets/cityscapes_trainval.py',
    '../_base_/schedules/schedule_20k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    pretrained='open-mmlab://resnet101_v1c',
    backbone=dict(depth=101, multi_grid=(4, 8, 16)),
    decode_head=dict(
        num_classes=19,
        sampler=dict(type='OHEMPixelSampler', thresh=0.7, min_kept=100000),
    ),
    auxiliary_head=dict(num_classes=19),
)
train_pipeline = [
    dict(step, ratio_range=(0.5, 2.2)) if step['type'] == 'RandomResize' else step
    for step in _base_.train_pipeline
]
train_dataloader = dict(
    dataset=dict(
        datasets=[
            dict(part, pipeline=train_pipeline) for part in _base_.train_dataloader.dataset.datasets
        ]
    )
)
optim_wrapper = dict(optimizer=dict(lr=0.0005))
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1]['transforms'][0] = [
    dict(type='Resize', scale_factor=s, keep_ratio=True)
    for s in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25)
]
load_from = 'work_dirs/acnet_r101-d16-mg4816-ohem_4xb4-80k_cityscapes-512x1024/iter_80000.pth'

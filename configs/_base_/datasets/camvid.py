# CamVid: 367 images for training, 101 for validation, 233 for testing, 480×360 pixels, 11 classes.
_base_ = './common_512x512.py'
scale = (480, 360)
crop_size = (360, 480)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
dataset = dict(type='CamVidDataset', data_root='data/camvid')
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        **dataset,
        data_prefix=dict(img_path='train', seg_map_path='trainannot'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        **dataset,
        data_prefix=dict(img_path='val', seg_map_path='valannot'),
        pipeline=test_pipeline,
    )
)
test_dataloader = dict(
    dataset=dict(
        **dataset,
        data_prefix=dict(img_path='test', seg_map_path='testannot'),
        pipeline=test_pipeline,
    )
)
val_evaluator = dict(type='ContextIoUMetric')
test_evaluator = val_evaluator

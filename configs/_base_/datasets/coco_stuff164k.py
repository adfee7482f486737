# COCO-Stuff 164k: 118,287 images for training, 5,000 for validation, 171 classes from label 0.
# CAC alone trains on it, with the photometric distortion that MMSegmentation adds.
_base_ = './common_512x512.py'
train_pipeline = _base_.train_pipeline
train_pipeline.insert(-1, dict(type='PhotoMetricDistortion'))
dataset = dict(type='COCOStuffDataset', data_root='data/coco_stuff164k')
train_dataloader = dict(
    dataset=dict(
        **dataset,
        data_prefix=dict(img_path='images/train2017', seg_map_path='annotations/train2017'),
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        **dataset,
        data_prefix=dict(img_path='images/val2017', seg_map_path='annotations/val2017'),
    )
)
test_dataloader = val_dataloader

# CamVid at half its size in crops, for small models from scratch.
_base_ = './camvid_180x240.py'
crop_size = (160, 208)
train_pipeline = list(_base_.train_pipeline)
train_pipeline.insert(3, dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

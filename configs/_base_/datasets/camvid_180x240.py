# CamVid at half its size, for a CPU: images of 240×180 pixels, predictions compared at 480×360.
_base_ = './camvid.py'
scale = (240, 180)
crop_size = (180, 240)
resize = dict(type='Resize', scale=scale, keep_ratio=True)
train_pipeline = [*_base_.train_pipeline[:2], resize, *_base_.train_pipeline[3:]]
test_pipeline = [_base_.test_pipeline[0], resize, *_base_.test_pipeline[2:]]
tta_pipeline = [_base_.tta_pipeline[0], resize, _base_.tta_pipeline[1]]
train_dataloader = dict(num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))

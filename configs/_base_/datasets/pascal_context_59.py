# PASCAL-Context without its background, which is ignored: 59 classes.
# CAC alone trains on it, with the photometric distortion that MMSegmentation adds.
_base_ = './pascal_context.py'
train_pipeline = _base_.train_pipeline
train_pipeline.insert(-1, dict(type='PhotoMetricDistortion'))
train_dataloader = dict(dataset=dict(type='PascalContextDataset59', pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(type='PascalContextDataset59'))
test_dataloader = val_dataloader

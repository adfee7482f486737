# As `ade20k.py`, with the photometric distortion that MMSegmentation adds.
_base_ = './ade20k.py'
train_pipeline = _base_.train_pipeline
train_pipeline.insert(-1, dict(type='PhotoMetricDistortion'))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

# As `ade20k.py`, with the photometric distortion that MMSegmentation adds.
_base_ = './ade20k.py'
train_pipeline = [
    *_base_.train_pipeline[:-1],
    dict(type='PhotoMetricDistortion'),
    _base_.train_pipeline[-1],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

# As `pascal_context_59.py`, with the photometric distortion that MMSegmentation adds.
_base_ = './pascal_context_59.py'
train_pipeline = [
    *_base_.train_pipeline[:-1],
    dict(type='PhotoMetricDistortion'),
    _base_.train_pipeline[-1],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

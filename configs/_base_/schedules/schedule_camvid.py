# 600 iterations of 8 images are 13 times CamVid's training images.
iterations = 600
optimizer = dict(type='AdamW', lr=3e-2, betas=(0.9, 0.999), weight_decay=1e-2)
# The rate of the encoder is for those who train it, too.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=optimizer,
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.03))),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.02, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', eta_min=0.0, power=0.9, begin=0, end=iterations, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=iterations)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=iterations),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
    exact_resume=dict(type='ExactResumeHook'),
)
randomness = dict(seed=0)

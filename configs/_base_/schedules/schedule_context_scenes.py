optimizer = dict(type='AdamW', lr=1e-2, betas=(0.9, 0.95), weight_decay=1e-3)
optim_wrapper = dict(type='OptimWrapper', optimizer=optimizer, clip_grad=None)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', eta_min=0.0, power=0.9, begin=50, end=600, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=600, val_interval=600)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=600),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # Batches are large and few: an interval would pass over nearly all of them.
    visualization=dict(type='SegVisualizationHook', interval=1),
    # After a kill, `mim train … --resume` goes on with the losses of an unbroken run.
    exact_resume=dict(type='ExactResumeHook'),
)
# 600 iterations are few: the result depends on the seed.
randomness = dict(seed=0)

# As for the context scenes, with more iterations and a third of the rate.
_base_ = './schedule_context_scenes.py'
iterations = 1500
optim_wrapper = dict(optimizer=dict(lr=3e-3))
param_scheduler = [_base_.param_scheduler[0], dict(_base_.param_scheduler[1], end=iterations)]
train_cfg = dict(max_iters=iterations, val_interval=iterations)
default_hooks = dict(checkpoint=dict(interval=iterations))

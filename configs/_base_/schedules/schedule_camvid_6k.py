# As at half size, five times as long.
_base_ = './schedule_camvid.py'
iterations = 6000
param_scheduler = [_base_.param_scheduler[0], dict(_base_.param_scheduler[1], end=iterations)]
train_cfg = dict(max_iters=iterations, val_interval=iterations // 10)
default_hooks = dict(checkpoint=dict(interval=iterations // 10))

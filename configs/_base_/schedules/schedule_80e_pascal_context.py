# DMNet: 80 epochs × 4,998 images / 16 images an iteration = 24,990.
_base_ = './schedule_20k.py'
iterations = 24_990
param_scheduler = [dict(_base_.param_scheduler[0], end=iterations)]
train_cfg = dict(max_iters=iterations, val_interval=iterations // 10)
default_hooks = dict(checkpoint=dict(interval=iterations // 10))

# CTNet: 250 epochs × 4,998 images / 16 images an iteration = 78,093.75.
_base_ = './schedule_20k.py'
iterations = 78_094
param_scheduler = [dict(_base_.param_scheduler[0], end=iterations)]
train_cfg = dict(max_iters=iterations, val_interval=iterations // 10)
default_hooks = dict(checkpoint=dict(interval=iterations // 10))

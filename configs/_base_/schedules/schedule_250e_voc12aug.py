# CTNet: 250 epochs × 10,582 images / 16 images an iteration = 165,343.75.
_base_ = './schedule_20k.py'
iterations = 165_344
param_scheduler = [dict(_base_.param_scheduler[0], end=iterations)]
train_cfg = dict(max_iters=iterations, val_interval=iterations // 10)
default_hooks = dict(checkpoint=dict(interval=iterations // 10))

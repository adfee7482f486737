# CTNet: 250 epochs × 10,582 images / 16 images an iteration = 165,343.75.
_base_ = './schedule_20k.py'
iterations = 165_344
# A tenth, rounded up: the last interval ends where the training ends.
interval = 16_535
param_scheduler = [dict(_base_.param_scheduler[0], end=iterations)]
train_cfg = dict(max_iters=iterations, val_interval=interval)
default_hooks = dict(checkpoint=dict(interval=interval))

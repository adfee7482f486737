# CaC-Net: 180 epochs × 20,210 images / 16 images an iteration = 227,362.5.
_base_ = './schedule_20k.py'
iterations = 227_363
# A tenth, rounded up: the last interval ends where the training ends.
interval = 22_737
param_scheduler = [dict(_base_.param_scheduler[0], end=iterations)]
train_cfg = dict(max_iters=iterations, val_interval=interval)
default_hooks = dict(checkpoint=dict(interval=interval))

# CaC-Net: 120 epochs × 4,998 images / 16 images an iteration = 37,485.
_base_ = './schedule_20k.py'
iterations = 37_485
# A tenth, rounded up: the last interval ends where the training ends.
interval = 3_749
param_scheduler = [dict(_base_.param_scheduler[0], end=iterations)]
train_cfg = dict(max_iters=iterations, val_interval=interval)
default_hooks = dict(checkpoint=dict(interval=interval))

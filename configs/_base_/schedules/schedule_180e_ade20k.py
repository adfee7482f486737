# CaC-Net: 180 epochs × 20,210 images / 16 images an iteration = 227,362.5.
_base_ = './schedule_20k.py'
iterations = 227_363
param_scheduler = [dict(_base_.param_scheduler[0], end=iterations)]
train_cfg = dict(max_iters=iterations, val_interval=iterations // 10)
default_hooks = dict(checkpoint=dict(interval=iterations // 10))

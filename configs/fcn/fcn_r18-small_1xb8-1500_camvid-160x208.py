# A small net from scratch, for the question what pretrained weights change.
_base_ = [
    '../_base_/models/fcn_r18-small.py',
    '../_base_/datasets/camvid_160x208.py',
    '../_base_/schedules/schedule_context_scenes.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(num_classes=11))
# As for the context scenes, with more iterations and a third of the rate.
iterations = 1500
optim_wrapper = dict(optimizer=dict(lr=3e-3))
param_scheduler = [_base_.param_scheduler[0], dict(_base_.param_scheduler[1], end=iterations)]
train_cfg = dict(max_iters=iterations, val_interval=iterations)
default_hooks = dict(checkpoint=dict(interval=iterations))

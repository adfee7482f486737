# As PaddleSeg trains PP-LiteSeg (Peng et al., arXiv:2204.02681) on CamVid, in
# configs/pp_liteseg/pp_liteseg_stdc1_camvid_960x720_10k.yml of github.com/PaddlePaddle/PaddleSeg:
# 10,000 iterations of SGD, from a rate of 0.01 by the poly policy to 0 after a warm-up of 200, with
# a weight decay of 5e-4.
_base_ = './schedule_20k.py'
iterations = 10_000
optim_wrapper = dict(optimizer=dict(weight_decay=5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=200),
    dict(type='PolyLR', eta_min=0.0, power=0.9, begin=200, end=iterations, by_epoch=False),
]
train_cfg = dict(max_iters=iterations, val_interval=iterations // 10)
default_hooks = dict(checkpoint=dict(interval=iterations // 10))

# CAC around FCN on CamVid at half size, for one core of a CPU. Not from a paper.
_base_ = '../fcn/fcn_lite0-d16_1xb8-600_camvid-180x240.py'
model = dict(
    decode_head=dict(
        _delete_=True,
        type='ContextAwareClassifierHead',
        head=_base_.model.decode_head,
        # With the usual weight of 1 this loss is three times as large as the head's own.
        loss_kl=dict(type='ClassEntropyKLLoss', loss_weight=0.1),
    )
)

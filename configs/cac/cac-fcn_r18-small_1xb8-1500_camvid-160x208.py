# CAC around a small FCN from scratch; see the FCN.
_base_ = '../fcn/fcn_r18-small_1xb8-1500_camvid-160x208.py'
model = dict(
    decode_head=dict(
        _delete_=True, type='ContextAwareClassifierHead', head=_base_.model.decode_head
    )
)

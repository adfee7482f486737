# CAC around DMNet on CamVid at full size, for one GPU or an hour of a CPU. Not from a paper.
_base_ = '../dmnet/dmnet_lite0-d16_1xb8-600_camvid-360x480.py'
model = dict(
    decode_head=dict(
        _delete_=True, type='ContextAwareClassifierHead', head=_base_.model.decode_head
    )
)

# CAC around DMNet on CamVid at full size, for one GPU. Not trained here.
_base_ = '../dmnet/dmnet_r50-d8_1xb16-10k_camvid-360x480.py'
model = dict(
    decode_head=dict(
        _delete_=True, type='ContextAwareClassifierHead', head=_base_.model.decode_head
    )
)

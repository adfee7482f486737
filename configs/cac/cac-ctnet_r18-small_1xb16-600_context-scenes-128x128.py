_base_ = '../ctnet/ctnet_r18-small_1xb16-600_context-scenes-128x128.py'
model = dict(
    decode_head=dict(
        _delete_=True,
        type='ContextAwareClassifierHead',
        head=_base_.model.decode_head,
    )
)

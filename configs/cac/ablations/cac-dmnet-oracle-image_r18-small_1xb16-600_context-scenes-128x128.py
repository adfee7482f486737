# Oracle prototypes and L_KL of each image, as in the paper's Eqs. 1 and 11.
_base_ = '../cac-dmnet_r18-small_1xb16-600_context-scenes-128x128.py'
model = dict(
    decode_head=dict(
        oracle_scope='image', loss_kl=dict(type='ClassEntropyKLLoss', soft_target_ratio=1.0)
    )
)

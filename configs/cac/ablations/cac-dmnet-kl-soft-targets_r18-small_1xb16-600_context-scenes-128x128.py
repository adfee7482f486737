# L_KL as in the paper's Eq. 11, without one-hot labels in its target.
_base_ = '../cac-dmnet_r18-small_1xb16-600_context-scenes-128x128.py'
model = dict(decode_head=dict(loss_kl=dict(type='ClassEntropyKLLoss', soft_target_ratio=1.0)))

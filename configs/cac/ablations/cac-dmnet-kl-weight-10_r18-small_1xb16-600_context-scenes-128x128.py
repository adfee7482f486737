# Table 2 h, weight of L_KL 10: 46.08 mIoU.
_base_ = '../cac-dmnet_r18-small_1xb16-600_context-scenes-128x128.py'
model = dict(decode_head=dict(loss_kl=dict(type='ClassEntropyKLLoss', loss_weight=10.0)))

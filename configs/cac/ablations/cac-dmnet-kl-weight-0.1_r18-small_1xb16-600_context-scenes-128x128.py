# Table 2 g, weight of L_KL 0.1: 45.88 mIoU.
_base_ = '../cac-dmnet_r18-small_1xb16-600_context-scenes-128x128.py'
model = dict(decode_head=dict(loss_kl=dict(type='ClassEntropyKLLoss', loss_weight=0.1)))

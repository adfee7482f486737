# Table 2 d and Table 3 a, no L_KL: 45.74 mIoU.
_base_ = '../cac-dmnet_r18-small_1xb16-600_context-scenes-128x128.py'
model = dict(decode_head=dict(loss_kl=None))

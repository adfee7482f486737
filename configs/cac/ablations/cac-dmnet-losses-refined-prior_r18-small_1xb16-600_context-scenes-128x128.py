# Table 2 c, losses of p and p_p: 45.14 mIoU.
_base_ = '../cac-dmnet_r18-small_1xb16-600_context-scenes-128x128.py'
model = dict(decode_head=dict(loss_oracle_weight=0, loss_kl=None))

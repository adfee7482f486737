# Table 2 b, losses of p_p alone: 44.06 mIoU.
_base_ = '../cac-dmnet_r18-small_1xb16-600_context-scenes-128x128.py'
model = dict(decode_head=dict(loss_prior_weight=0, loss_oracle_weight=0, loss_kl=None))

# Figure 11, β = 0.
_base_ = './ctnet_r18-small_1xb16-600_context-scenes-128x128.py'
model = dict(decode_head=dict(loss_class_probability=None))

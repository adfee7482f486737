# Table 5 c, the projector reads prototypes: 46.21 mIoU.
_base_ = '../cac-dmnet_r18-small_1xb16-600_context-scenes-128x128.py'
model = dict(decode_head=dict(projector_input='prototype'))

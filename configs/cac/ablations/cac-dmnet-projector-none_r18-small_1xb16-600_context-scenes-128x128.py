# Table 5 a, prototypes classify: 44.08 mIoU.
_base_ = '../cac-dmnet_r18-small_1xb16-600_context-scenes-128x128.py'
model = dict(decode_head=dict(projector_input='none'))

# Fixed depthwise filters of sizes 1, 3, 5, 7, Table 1: 71.88 mIoU.
_base_ = '../dmnet_r50-d8_4xb4-80e_voc12aug-512x512.py'
model = dict(decode_head=dict(filter_type='depthwise'))

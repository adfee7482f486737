# Fixed depthwise filters of sizes 1, Table 1: 70.59 mIoU.
_base_ = '../dmnet_r50-d8_4xb4-80e_voc12aug-512x512.py'
model = dict(decode_head=dict(filter_type='depthwise', filter_sizes=(1,)))

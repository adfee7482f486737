# Fixed regular filters of sizes 1, 3, 5, Table 1: 72.65 mIoU.
_base_ = '../dmnet_r50-d8_4xb4-80e_voc12aug-512x512.py'
model = dict(decode_head=dict(filter_type='regular', filter_sizes=(1, 3, 5)))

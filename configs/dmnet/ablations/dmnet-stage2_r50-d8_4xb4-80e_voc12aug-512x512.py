# Filters generated from stage 2's features, Table 4: 73.13 mIoU.
_base_ = '../dmnet_r50-d8_4xb4-80e_voc12aug-512x512.py'
model = dict(decode_head=dict(context_index=0, context_channels=256))

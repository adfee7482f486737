# CTNet on ResNet-101 with JPU, Table 7: 55.5 mIoU.
_base_ = './ctnet_r50-jpu_4xb4-250e_pascal-context-480x480.py'
model = dict(pretrained='open-mmlab://resnet101_v1c', backbone=dict(depth=101))

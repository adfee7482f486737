# CaC-Net on ResNet-101, Tables 1 and 8: 55.4 mIoU.
_base_ = './cacnet_r50-d8_4xb4-120e_pascal-context-512x512.py'
model = dict(pretrained='open-mmlab://resnet101_v1c', backbone=dict(depth=101))

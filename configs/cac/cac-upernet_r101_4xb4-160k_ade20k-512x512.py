# CAC with UPerNet on ResNet-101, Table 1: 46.06 mIoU, 47.74 with scales and flip.
_base_ = './cac-upernet_r50_4xb4-160k_ade20k-512x512.py'
model = dict(pretrained='open-mmlab://resnet101_v1c', backbone=dict(depth=101))

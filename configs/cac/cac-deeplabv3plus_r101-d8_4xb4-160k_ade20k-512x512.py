# CAC with DeepLabV3+ on ResNet-101, Table 1: 47.25 mIoU, 48.41 with scales and flip.
_base_ = './cac-deeplabv3plus_r50-d8_4xb4-160k_ade20k-512x512.py'
model = dict(pretrained='open-mmlab://resnet101_v1c', backbone=dict(depth=101))

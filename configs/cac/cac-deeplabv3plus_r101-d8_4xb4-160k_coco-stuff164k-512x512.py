# CAC with DeepLabV3+ on ResNet-101, Table 1: 44.21 mIoU, 45.10 with scales and flip.
_base_ = './cac-deeplabv3plus_r50-d8_4xb4-160k_coco-stuff164k-512x512.py'
model = dict(pretrained='open-mmlab://resnet101_v1c', backbone=dict(depth=101))

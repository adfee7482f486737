# CAC with UPerNet on ResNet-101, Table 1: 43.13 mIoU, 43.84 with scales and flip.
_base_ = './cac-upernet_r50_4xb4-160k_coco-stuff164k-512x512.py'
model = dict(pretrained='open-mmlab://resnet101_v1c', backbone=dict(depth=101))

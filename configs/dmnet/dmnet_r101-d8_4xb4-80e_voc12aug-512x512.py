# DMNet on ResNet-101, Table 6: 81.08 mIoU, 82.15 with scales and flip.
_base_ = './dmnet_r50-d8_4xb4-80e_voc12aug-512x512.py'
model = dict(pretrained='open-mmlab://resnet101_v1c', backbone=dict(depth=101))

# CTNet as in the paper: a ResNet-50 of stride 32 and joint pyramid upsampling.
_base_ = './ctnet_r50v1d_jpu.py'
model = dict(pretrained='open-mmlab://resnet50_v1c', backbone=dict(type='ResNetV1c'))

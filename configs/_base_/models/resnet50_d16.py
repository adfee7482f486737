# ResNet-50 with an output stride of 16; dilation 2 in every block of the last stage.
_base_ = './resnet50_d8.py'
model = dict(backbone=dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), contract_dilation=False))

# OCRNet on HRNet-W48: the same with wider branches.
_base_ = './ocrnet_hr18.py'
channels = [48, 96, 192, 384]
model = dict(
    pretrained='open-mmlab://msra/hrnetv2_w48',
    backbone=dict(
        extra=dict(
            stage2=dict(num_channels=channels[:2]),
            stage3=dict(num_channels=channels[:3]),
            stage4=dict(num_channels=channels),
        )
    ),
    decode_head=[
        dict(_base_.model.decode_head[0], in_channels=channels, channels=sum(channels)),
        dict(_base_.model.decode_head[1], in_channels=channels),
    ],
)

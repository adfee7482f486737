# OCRNet on HRNet-W18; settings as MMSegmentation's. The FCN before it has the auxiliary loss.
_base_ = './resnet50_d8.py'
channels = [18, 36, 72, 144]
stages = dict(
    in_channels=channels,
    in_index=(0, 1, 2, 3),
    input_transform='resize_concat',
    dropout_ratio=0,
    norm_cfg=_base_.norm_cfg,
    align_corners=False,
)
model = dict(
    type='MemoryEfficientCascadeEncoderDecoder',
    num_stages=2,
    pretrained='open-mmlab://msra/hrnetv2_w18',
    backbone=dict(
        _delete_=True,
        type='HRNet',
        norm_cfg=_base_.norm_cfg,
        norm_eval=False,
        extra=dict(
            stage1=dict(
                num_modules=1,
                num_branches=1,
                block='BOTTLENECK',
                num_blocks=(4,),
                num_channels=(64,),
            ),
            stage2=dict(
                num_modules=1,
                num_branches=2,
                block='BASIC',
                num_blocks=(4, 4),
                num_channels=channels[:2],
            ),
            stage3=dict(
                num_modules=4,
                num_branches=3,
                block='BASIC',
                num_blocks=(4, 4, 4),
                num_channels=channels[:3],
            ),
            stage4=dict(
                num_modules=3,
                num_branches=4,
                block='BASIC',
                num_blocks=(4, 4, 4, 4),
                num_channels=channels,
            ),
        ),
    ),
    decode_head=[
        dict(
            type='FCNHead',
            channels=sum(channels),
            kernel_size=1,
            num_convs=1,
            concat_input=False,
            loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4),
            **stages,
        ),
        dict(
            type='OCRHead',
            channels=512,
            ocr_channels=256,
            loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
            **stages,
        ),
    ],
    auxiliary_head=None,
)

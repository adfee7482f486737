# The baseline of the methods on CamVid at full size, for one GPU. Not trained here.
# Images of 480×360 pixels are a quarter of the source's, so that 16 an iteration fit one GPU.
_base_ = [
    '../_base_/models/resnet50_d8.py',
    '../_base_/datasets/camvid.py',
    '../_base_/schedules/schedule_10k_camvid.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    decode_head=dict(
        type='FCNHead',
        in_channels=2048,
        in_index=3,
        channels=512,
        dropout_ratio=0.1,
        num_classes=11,
        norm_cfg=_base_.norm_cfg,
        align_corners=False,
    ),
    auxiliary_head=dict(num_classes=11),
)
train_dataloader = dict(batch_size=16)

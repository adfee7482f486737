# UPerNet on Swin-L, pre-trained on ImageNet-22K at 384×384 with windows of 12.
_base_ = './upernet_swin-b-384.py'
model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='https://mmassets.onedl.ai/mmsegmentation/v0.5/pretrain/swin/'
            'swin_large_patch4_window12_384_22k_20220412-6580f57d.pth'
        ),
        embed_dims=192,
        num_heads=[6, 12, 24, 48],
    ),
    decode_head=dict(in_channels=[192, 384, 768, 1536]),
    auxiliary_head=dict(in_channels=768),
)

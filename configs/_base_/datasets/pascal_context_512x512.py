# PASCAL-Context with the 512 crop of CaC-Net and DMNet.
_base_ = './pascal_context.py'
crop_size = (512, 512)
train_pipeline = [
    dict(transform, crop_size=crop_size) if transform['type'] == 'RandomCrop' else transform
    for transform in _base_.train_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

# PASCAL VOC 2012, the 2,913 original images of train and val: fine-tuning before the test server.
# Validation repeats training images and only shows that the run is sound; the test set has no
# labels, so `mim test` writes the PNGs that the server takes.
_base_ = './pascal_voc12_aug.py'
dataset = _base_.dataset
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        **dataset,
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
        ann_file='ImageSets/Segmentation/trainval.txt',
        pipeline=_base_.train_pipeline,
    )
)

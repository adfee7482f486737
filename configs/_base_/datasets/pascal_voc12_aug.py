# PASCAL VOC 2012, 21 classes: 1,464 images for training and the 9,118 that Hariharan et al. added.
_base_ = './common_512x512.py'
dataset = dict(type='PascalVOCDataset', data_root='data/VOCdevkit/VOC2012')
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        datasets=[
            dict(
                **dataset,
                data_prefix=dict(img_path='JPEGImages', seg_map_path=labels),
                ann_file=f'ImageSets/Segmentation/{split}.txt',
                pipeline=_base_.train_pipeline,
            )
            for labels, split in (('SegmentationClass', 'train'), ('SegmentationClassAug', 'aug'))
        ],
    )
)
val_dataloader = dict(
    dataset=dict(
        **dataset,
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
        ann_file='ImageSets/Segmentation/val.txt',
    )
)
test_dataloader = val_dataloader

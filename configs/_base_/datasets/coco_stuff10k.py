# COCO-Stuff 10k: 9,000 images for training, 1,000 for testing, 171 classes; label 0 is ignored.
_base_ = './common_512x512.py'
dataset = dict(type='COCOStuffDataset', data_root='data/coco_stuff10k', reduce_zero_label=True)
train_dataloader = dict(
    dataset=dict(
        **dataset,
        data_prefix=dict(img_path='images/train2014', seg_map_path='annotations/train2014'),
    )
)
val_dataloader = dict(
    dataset=dict(
        **dataset,
        data_prefix=dict(img_path='images/test2014', seg_map_path='annotations/test2014'),
    )
)
test_dataloader = val_dataloader

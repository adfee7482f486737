# PASCAL VOC 2012, the 2,913 original images of train and val: fine-tuning before the test server.
# Validation repeats training images and only shows that the run is sound; the test set has no
# labels, so `mim test` writes the palette PNGs that the server takes.
_base_ = './pascal_voc12_aug.py'
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        **_base_.dataset,
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
        ann_file='ImageSets/Segmentation/trainval.txt',
        pipeline=_base_.train_pipeline,
    )
)
test_dataloader = dict(
    dataset=dict(
        data_prefix=dict(_delete_=True, img_path='JPEGImages'),
        ann_file='ImageSets/Segmentation/test.txt',
        pipeline=[step for step in _base_.test_pipeline if step['type'] != 'LoadAnnotations'],
    )
)
test_evaluator = dict(
    _delete_=True,
    type='VOCResultsMetric',
    output_dir='work_dirs/voc_results/results/VOC2012/Segmentation/comp6_test_cls',
)
tta_pipeline = [
    _base_.tta_pipeline[0],
    dict(
        type='TestTimeAug',
        transforms=[
            steps
            for steps in _base_.tta_pipeline[1]['transforms']
            if steps[0]['type'] != 'LoadAnnotations'
        ],
    ),
]

# Cityscapes, the 3,475 fine labels of train and val: fine-tuning before the test server.
# Validation repeats training images and only shows that the run is sound; the test set has no
# labels, so `mim test` writes the PNGs of labelIds that the server takes.
_base_ = './cityscapes.py'
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        datasets=[
            dict(
                **_base_.dataset,
                data_prefix=dict(img_path=f'leftImg8bit/{split}', seg_map_path=f'gtFine/{split}'),
                pipeline=_base_.train_pipeline,
            )
            for split in ('train', 'val')
        ],
    )
)
test_dataloader = dict(
    dataset=dict(
        data_prefix=dict(_delete_=True, img_path='leftImg8bit/test'),
        pipeline=[step for step in _base_.test_pipeline if step['type'] != 'LoadAnnotations'],
    )
)
test_evaluator = dict(
    _delete_=True,
    type='CityscapesMetric',
    format_only=True,
    keep_results=True,
    output_dir='work_dirs/cityscapes_results',
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

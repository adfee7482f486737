# The baseline on CamVid at full size, for one GPU or an hour of a CPU. Not from a paper.
_base_ = [
    '../_base_/models/fcn_lite0-d16.py',
    '../_base_/datasets/camvid.py',
    '../_base_/schedules/schedule_camvid.py',
    '../_base_/default_runtime.py',
]
model = dict(data_preprocessor=dict(size=_base_.crop_size))

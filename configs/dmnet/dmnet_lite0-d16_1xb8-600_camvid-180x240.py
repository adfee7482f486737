# DMNet on CamVid at half size, for one core of a CPU. Not from a paper.
_base_ = [
    '../_base_/models/dmnet_lite0-d16.py',
    '../_base_/datasets/camvid_180x240.py',
    '../_base_/schedules/schedule_camvid.py',
    '../_base_/default_runtime.py',
]
model = dict(data_preprocessor=dict(size=_base_.crop_size))

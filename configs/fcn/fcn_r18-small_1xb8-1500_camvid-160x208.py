# The baseline of the methods in small on CamVid: no paper's figures, runs on a CPU.
_base_ = [
    '../_base_/models/fcn_r18-small.py',
    '../_base_/datasets/camvid_160x208.py',
    '../_base_/schedules/schedule_camvid_small.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(num_classes=11))

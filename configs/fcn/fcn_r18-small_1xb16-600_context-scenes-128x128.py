_base_ = [
    '../_base_/models/fcn_r18-small.py',
    '../_base_/datasets/context_scenes.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_context_scenes.py',
]

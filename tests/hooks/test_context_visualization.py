"""The hook in a run of MMEngine's, into the backends that the run's visualizer has."""

import numpy as np
from mmengine.runner import Runner
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.small_models import build_segmentor, scenes_loader


def test_every_so_many_images_reach_each_backend(tmp_path, quick_runs):
    backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
    runner = Runner(
        model=build_segmentor('ACNet'),
        work_dir=str(tmp_path),
        val_dataloader=dict(scenes_loader(5), batch_size=2, num_workers=0),
        val_cfg=dict(type='ValLoop'),
        val_evaluator=dict(type='IoUMetric'),
        default_hooks=dict(context=dict(type='ContextVisualizationHook', interval=2)),
        visualizer=dict(type='SegLocalVisualizer', vis_backends=backends, name='context'),
        default_scope='mmseg',
        log_level='ERROR',
    )
    runner.val()
    files = sorted(tmp_path.rglob('vis_image/*.png'))
    names = [f'context_context_scene_1_{index:06d}_40x64' for index in (0, 2, 4)]
    assert [path.name for path in files] == [f'{name}_0.png' for name in names]
    picture = np.array(Image.open(files[0]))
    assert picture.shape[1] == 1200
    assert picture.std() > 20
    runner.visualizer.close()
    (events,) = {path.parent for path in tmp_path.rglob('events.out.*')}
    log = EventAccumulator(str(events), size_guidance=dict(images=0)).Reload()
    assert sorted(log.Tags()['images']) == names

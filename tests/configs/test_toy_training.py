"""Configs on toy data sets: train, validate, save, resume, test, each through MMEngine's runner."""

import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from mmseg_ctx.checkpoints.loading import load_checkpoint
from tests.configs.training import (
    layout_of,
    prepare,
    runner,
    use_small_images,
    with_scales_and_flip,
)
from tests.configs.zoo import PATHS
from tests.helpers import ROOT
from tests.toy import LAYOUTS

FILES = [path for path in PATHS if 'context-scenes' not in path]


def choose_examples():
    """Return for each layout a config that a CPU trains soon, of the method with the fewest.

    Configs of ``trainval`` are left out: their test images have no labels.
    """
    chosen, methods = {}, Counter()
    for layout in LAYOUTS:
        if layout.endswith('trainval'):
            continue
        quick = [path for path in FILES if layout_of(path) == layout and 'swin' not in path]
        chosen[layout] = min(quick, key=lambda path: methods[path.split('/')[0]])
        methods[chosen[layout].split('/')[0]] += 1
    return chosen


EXAMPLES = choose_examples()


def train_and_resume(config):
    """Train two iterations, validate, save, resume, train a third, validate, save."""
    first = runner(config)
    first.train()
    # Most configs ask for SyncBN; on one device it is plain batch norm.
    norms = [module for module in first.model.modules() if isinstance(module, _BatchNorm)]
    assert norms
    assert not any(isinstance(norm, torch.nn.SyncBatchNorm) for norm in norms)
    assert load_checkpoint('work_dir/iter_2.pth')[1]['iter'] == 2
    resumed = runner(config, resume=True, **{'train_cfg.max_iters': 3})
    resumed.train()
    assert resumed.iter == 3
    losses = resumed.message_hub.get_scalar('train/loss').data[0]
    assert all(math.isfinite(loss) for loss in losses)


@pytest.mark.parametrize(
    'layout',
    [pytest.param(each, marks=[pytest.mark.slow] * (each != 'ade20k')) for each in EXAMPLES],
)
def test_trains_on_each_data_set(layout, folder):
    config = prepare(ROOT / 'configs' / EXAMPLES[layout], layout)
    config.load_from = None
    use_small_images(config)
    train_and_resume(config)
    several = with_scales_and_flip(config)
    assert 'mIoU' in runner(several, load_from='work_dir/iter_3.pth').test()


@pytest.mark.zoo
@pytest.mark.parametrize('path', FILES)
def test_every_config_trains_validates_and_tests(path, folder):
    config = prepare(ROOT / 'configs' / path, layout_of(path))
    use_small_images(config)
    config.load_from = None
    if 'strategy' in config:  # PyTorch's FSDP needs an accelerator.
        config.strategy = dict(type='SingleDeviceStrategy')
    training = runner(config)
    training.train()
    losses, _ = training.message_hub.get_scalar('train/loss').data
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    assert 0 <= training.message_hub.get_scalar('val/mIoU').current() <= 100
    # `mim test` takes MMEngine's plain runner for every config.
    config.pop('runner_type', None)
    for settings in (config, with_scales_and_flip(config)):
        metrics = runner(settings, load_from='work_dir/iter_2.pth').test()
        if settings.test_evaluator.type in ('IoUMetric', 'ContextIoUMetric'):
            assert 0 <= metrics['mIoU'] <= 100
        else:
            assert list(Path(settings.test_evaluator.output_dir).iterdir())

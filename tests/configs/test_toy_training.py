"""Configs on toy data sets: train, validate, save, resume, test, each through MMEngine's runner."""

import math
from pathlib import Path

import pytest
import torch
from mmengine import Config
from torch.nn.modules.batchnorm import _BatchNorm

from mmseg_ctx.checkpoints.loading import load_checkpoint
from mmseg_ctx.datasets.toy import LAYOUTS, make_toy_dataset
from tests.configs.test_zoo import CAMVID, PUBLIC
from tests.configs.training import (
    layout_of,
    load_lightly,
    mim,
    prepare,
    runner,
    schedule,
    shrink,
    use_small_images,
    with_scales_and_flip,
)
from tests.helpers import ROOT

FILES = [*PUBLIC, *CAMVID]
# One of the zoo for each data set, each method among them.
EXAMPLES = {
    'ade20k': 'ctnet/ctnet_r101-jpu_4xb4-300e_ade20k-512x512.py',
    'camvid': 'ctnet/ctnet_lite0-d16_1xb8-6k_camvid-360x480.py',
    'cityscapes': 'acnet/acnet_r101-d16-mg4816-ohem_4xb4-80k_cityscapes-512x1024.py',
    'coco_stuff10k': 'acnet/acnet_r101-d16_4xb4-40k_coco-stuff10k-512x512.py',
    'coco_stuff164k': 'cac/cac-deeplabv3plus_r50-d8_4xb4-160k_coco-stuff164k-512x512.py',
    'pascal_context': 'cacnet/cacnet_r50-d8_4xb4-120e_pascal-context-512x512.py',
    'pascal_context_59': 'cac/cac-upernet_r50_4xb4-80k_pascal-context-59-480x480.py',
    'pascal_voc12_aug': 'dmnet/dmnet_r50-d8_4xb4-80e_voc12aug-512x512.py',
}


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


@pytest.mark.parametrize('layout', LAYOUTS)
def test_trains_on_each_data_set(layout, folder):
    config = prepare(ROOT / 'configs' / EXAMPLES[layout], layout)
    use_small_images(config)
    train_and_resume(config)
    several = with_scales_and_flip(config)
    assert 'mIoU' in runner(several, load_from='work_dir/iter_3.pth').test()


@pytest.mark.parametrize('model', ['fcn_m-v2-d8_4xb4', 'ocrnet_hr18_4xb4', 'upernet_swin-t_8xb2'])
def test_cac_on_each_kind_of_backbone(model, folder):
    """Those but ResNets, which the data sets' tests have."""
    path = ROOT / f'configs/cac/cac-{model}-160k_ade20k-512x512.py'
    config = prepare(path, 'ade20k', iterations=1)
    use_small_images(config)
    training = runner(config, **{'train_cfg.val_begin': 2})
    training.train()
    [loss] = training.message_hub.get_scalar('train/loss').data[0]
    assert math.isfinite(loss)
    several = with_scales_and_flip(config)
    assert 'mIoU' in runner(several, load_from='work_dir/iter_1.pth').test()


@pytest.mark.zoo
@pytest.mark.parametrize('path', FILES)
def test_every_config_trains_validates_and_tests(path, folder):
    config = prepare(ROOT / 'configs' / path, layout_of(path))
    use_small_images(config)
    config.load_from = None
    if 'strategy' in config:
        # PyTorch's FSDP needs an accelerator.
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


@pytest.mark.zoo
def test_mim_trains_and_tests(folder):
    """The same with the commands that a user types."""
    path = ROOT / 'configs' / EXAMPLES['pascal_voc12_aug']
    config = Config.fromfile(path)
    make_toy_dataset('pascal_voc12_aug', config.dataset.data_root, num_images=1)
    options = {**shrink(config), **schedule(2), **load_lightly()}
    run = ['mmseg', path, '--gpus', '0', '--work-dir', 'work_dir']
    mim('train', *run, **options)
    assert (folder / 'work_dir/iter_2.pth').exists()
    for several in ([], ['--tta']):
        assert 'mIoU' in mim(
            'test', *run, '--checkpoint', 'work_dir/iter_2.pth', *several, **options
        )

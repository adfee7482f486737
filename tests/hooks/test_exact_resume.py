"""Runs survive: resumed with the losses of an unbroken run, past damaged checkpoints."""

import contextlib
import itertools
import os
import random
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import DATA_SAMPLERS
from mmengine.runner import runner
from mmseg.registry import TRANSFORMS
from torch.utils.data import BatchSampler, SequentialSampler

from mmseg_ctx.hooks.exact_resume import choose_whole_checkpoint
from tests.heads.runs import Losses


class Model(BaseModel):
    """One weight; its loss tells every image and every random number."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, inputs, data_samples, mode):
        means = torch.stack([image.float().mean() for image in inputs])
        noise = torch.rand(()) + np.random.rand() + random.random()
        return dict(loss=self.weight * (means * torch.arange(1, len(means) + 1)).sum() + noise)


@TRANSFORMS.register_module(force=True)
class DrawNumbers:
    """Adds numbers of all three generators to an image."""

    def __call__(self, results):
        numbers = torch.rand(3).numpy() + np.random.rand(3) + random.random()
        return {**results, 'img': (results['img'] + 40 * numbers).astype(np.float32)}


@DATA_SAMPLERS.register_module(force=True)
class Threes(BatchSampler):
    def __init__(self, sampler, batch_size):
        super().__init__(sampler, 3, drop_last=False)


def interrupt():
    raise KeyboardInterrupt


STEPS = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='DrawNumbers'),
    dict(type='PackSegInputs'),
]
SCENES = dict(type='ContextScenesDataset', num_images=7, image_size=32, pipeline=STEPS)
MOSAIC = dict(
    type='MultiImageMixDataset',
    dataset=dict(SCENES, pipeline=STEPS[:3]),
    pipeline=[dict(type='RandomMosaic', prob=0.7, img_scale=(32, 32)), *STEPS[2:]],
)
BY_ITERATION = dict(type='IterBasedTrainLoop', max_iters=11, val_interval=100)
BY_EPOCH = dict(type='EpochBasedTrainLoop', max_epochs=3)
RUN = itertools.count()


def train(folder, stop=None, loop=BY_ITERATION, loader={}, hook={}, **options):
    """Train on seven scenes, two in a batch; return the losses by iteration."""
    sampler = dict(type='DefaultSampler')
    loader = {**dict(batch_size=2, num_workers=0, sampler=sampler, dataset=SCENES), **loader}
    hook = {**dict(type='CheckpointHook', by_epoch=False, interval=5), **hook}
    with mock.patch('time.sleep'):
        run = options.pop('cls', runner.Runner)(
            model=Model(),
            work_dir=str(folder),
            train_dataloader=loader,
            train_cfg=loop,
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-5, momentum=0.9)),
            default_hooks=dict(checkpoint=hook, exact_resume=dict(type='ExactResumeHook')),
            custom_hooks=[losses := Losses(stop, interrupt)],
            default_scope='mmseg',
            log_level='WARNING',
            experiment_name=f'{folder.name} {next(RUN)}',
            **{**dict(randomness=dict(seed=0)), **options},
        )
        with contextlib.suppress(KeyboardInterrupt):
            run.train()
    return {iteration: each['loss'].item() for iteration, each in losses.losses.items()}


# What a loader has beside the defaults.
LOADERS = {
    'plain': dict(),
    'infinite': dict(sampler=dict(type='InfiniteSampler')),
    'batch sampler': dict(batch_sampler=dict(type='Threes')),
    'concatenated': dict(dataset=dict(type='ConcatDataset', datasets=[SCENES, SCENES])),
    'mosaic': dict(dataset=MOSAIC),
}
SETUPS = [
    *((BY_ITERATION, loader, 2) for loader in LOADERS),
    # An infinite epoch has no end.
    *((BY_EPOCH, loader, 2) for loader in LOADERS if loader != 'infinite'),
    *((loop, 'mosaic', 0) for loop in (BY_ITERATION, BY_EPOCH)),
    (BY_ITERATION, 'infinite', 0),
]


@pytest.fixture(autouse=True)
def _workers_end_at_once(monkeypatch, quick_runs):
    """PyTorch waits five seconds for each when it deletes a loader."""
    monkeypatch.setattr(torch.utils.data._utils, 'MP_STATUS_CHECK_INTERVAL', 0.1)
    monkeypatch.setattr('gc.collect', lambda: None)  # a data set calls it


@pytest.mark.parametrize(
    ('loop', 'loader', 'workers'),
    # Worker processes take most of the time.
    [pytest.param(*each, marks=[pytest.mark.slow] if each[2] else []) for each in SETUPS],
)
def test_resumed_losses_are_those_of_an_unbroken_run(loop, loader, workers, tmp_path):
    """The checkpoint, of iteration 5, is within an epoch. The unbroken run has no workers."""
    loader = LOADERS[loader]
    unbroken = train(tmp_path, loop=loop, loader=loader)
    assert len(set(unbroken.values())) == len(unbroken) > 8
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_5.pth'))
    loader = dict(loader, num_workers=workers, persistent_workers=workers > 0)
    resumed = train(tmp_path, loop=loop, loader=loader, resume=True)
    assert resumed == dict(list(unbroken.items())[5:])


def test_epochs_with_checkpoints_of_epochs(tmp_path):
    options = dict(loop=BY_EPOCH, hook=dict(by_epoch=True, interval=1))
    unbroken = train(tmp_path / 'unbroken', **options)
    train(tmp_path / 'run', 7, **options)
    assert train(tmp_path / 'run', resume=True, **options) == dict(list(unbroken.items())[4:])


class SequentialImages(SequentialSampler):
    def __init__(self, dataset, seed):
        super().__init__(dataset)


@pytest.mark.parametrize(
    ('resumes', 'loader', 'reason'),
    [
        (False, dict(), None),
        (True, dict(), 'the checkpoint has no state of the optimizer'),
        (False, dict(batch_size=None), 'the sampler, NoneType, is none of MMEngine'),
        (False, dict(sampler=dict(type=SequentialImages)), 'the sampler, SequentialImages'),
    ],
)
def test_a_run_that_is_not_exact_says_why(resumes, loader, reason, tmp_path):
    # A GPU would be one more reason; images without a batch end in an error.
    with mock.patch('torch.cuda.is_available', bool), contextlib.suppress(KeyError):
        hook = dict(save_optimizer=False)
        for resume in [False] + [True] * resumes:
            train(tmp_path, 6, loader=loader, hook=hook, resume=resume)
    log = ''.join(path.read_text() for path in tmp_path.glob('*/*.log'))
    lines = [line for line in log.splitlines() if 'after a resume' in line]
    assert len(lines) == (reason is not None)
    assert all(reason in line for line in lines)


@pytest.fixture
def run(tmp_path):
    """A work directory with checkpoints of iterations 9 and 10, the last one current."""
    for iteration in (9, 10):
        torch.save({'weight': torch.rand(1000)}, tmp_path / f'iter_{iteration}.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_10.pth'))
    return tmp_path


def chosen(run):
    """Return the name of the checkpoint that a run is resumed from, and the number of warnings."""
    warnings = []
    choose_whole_checkpoint(run, warnings.append)
    return Path((run / 'last_checkpoint').read_text()).name, len(warnings)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-100])


def change_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_text('')


@pytest.mark.parametrize('damage', [cut_short, change_a_byte, os.unlink, empty])
def test_checkpoint_before_a_damaged_one_is_used(damage, run):
    assert chosen(run) == ('iter_10.pth', 0)
    for name in ('iter_11_backup.pth', 'iter_.pth', 'iter_12.pth.tmp', 'best_mIoU_iter_10.pth'):
        torch.save({}, run / name)
    damage(run / 'iter_10.pth')
    assert chosen(run) == ('iter_9.pth', 1)
    damage(run / 'iter_9.pth')
    with pytest.raises(RuntimeError, match=r'iter_9\.pth, which is missing'):
        choose_whole_checkpoint(run)


def test_fine_tuning_resumes_from_its_own_checkpoint(tmp_path):
    first, folder = tmp_path / 'first/iter_11.pth', tmp_path / 'second'
    train(tmp_path / 'first')
    # It has no checkpoint yet: it starts with the weights of the other.
    start = train(folder, 3, load_from=str(first), resume=True)
    assert min(start) == 1
    assert start == train(tmp_path / 'third', 3, load_from=str(first))
    train(folder, 7, load_from=str(first))
    assert min(train(folder, load_from=str(first), resume=True)) == 6
    # One of its own can be named.
    assert min(train(folder, load_from=str(folder / 'iter_5.pth'), resume=True)) == 6
    longer = dict(BY_ITERATION, max_iters=12)
    assert min(train(folder, load_from=str(first), loop=longer, resume=True)) == 12

"""Runs survive: killed and resumed with the same losses, a checkpoint cut short, a full disk."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from mmengine import Config
from mmengine.fileio import LocalBackend
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from mmengine.utils import get_installed_path

from mmseg_ctx.checkpoints.loading import load_checkpoint
from mmseg_ctx.hooks.exact_resume import choose_whole_checkpoint, is_whole
from tests.helpers import ROOT

CONFIG = f"""
_base_ = '{ROOT}/configs/dmnet/dmnet_r18-small_1xb16-600_context-scenes-128x128.py'
# A list of the user's own, which takes the place of any list in the bases.
custom_hooks = [dict(type='ContextVisualizationHook')]
train_dataloader = dict(batch_size=2, dataset=dict(num_images=50, image_size=32))
val_dataloader = dict(dataset=dict(num_images=1, image_size=32))
train_cfg = dict(max_iters=8, val_interval=8)
# As most configs have it: MMEngine draws a seed.
randomness = dict(seed=None)
default_hooks = dict(
    logger=dict(interval=1),
    checkpoint=dict(_delete_=True, type='CheckpointHook', by_epoch=False, interval=3),
)
log_processor = dict(window_size=1)
"""
KILLER = """
import os, signal
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class KillHook(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 4 and not runner.cfg.resume:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def train(folder, config, *options):
    """Train as ``mim train mmseg`` does, and return the losses by iteration."""
    (folder / 'config.py').write_text(config)
    script = get_installed_path('mmseg') + '/.mim/tools/train.py'
    command = [sys.executable, script, 'config.py', '--work-dir', 'run', *options]
    environment = {**os.environ, 'PYTHONPATH': f'{ROOT}:{folder}', 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    [log] = sorted(folder.glob('run/*/vis_data/scalars.json'))[-1:]
    lines = map(json.loads, log.read_text().splitlines())
    return done, {line['step']: line['loss'] for line in lines if 'loss' in line}


def test_killed_run_of_the_program_goes_on_with_the_same_losses(tmp_path):
    """MMEngine draws a seed for the run, and another one when the run is resumed."""
    loading = """
train_dataloader['num_workers'] = 2
train_dataloader['persistent_workers'] = True
"""
    unbroken, killed = tmp_path / 'unbroken', tmp_path / 'killed'
    unbroken.mkdir()
    killed.mkdir()
    (killed / 'killer.py').write_text(KILLER)
    imports = "custom_imports = dict(imports=['mmseg_ctx', 'killer'])\n"
    hooks = "custom_hooks.append(dict(type='KillHook'))\n"
    config = CONFIG + loading + imports + hooks
    done, before = train(killed, config)
    assert done.returncode == -signal.SIGKILL
    assert max(before) in (4, 5)
    done, after = train(killed, config, '--resume')
    assert done.returncode == 0, done.stderr
    # The checkpoint before the kill is that of iteration 3.
    assert sorted(after) == [4, 5, 6, 7, 8]

    seed = load_checkpoint(killed / 'run/iter_3.pth')[1]['seed']
    assert load_checkpoint(killed / 'run/iter_8.pth')[1]['seed'] == seed
    done, expected = train(unbroken, CONFIG + loading, '--cfg-options', f'randomness.seed={seed}')
    assert done.returncode == 0, done.stderr
    assert sorted(expected) == list(range(1, 9))
    assert len(set(expected.values())) == 8
    assert before == {step: expected[step] for step in before}
    assert after == {step: expected[step] for step in after}


@pytest.fixture
def run(tmp_path):
    """A work directory with checkpoints of iterations 9 and 10, the last one current."""
    for iteration in (9, 10):
        torch.save({'weight': torch.rand(1000)}, tmp_path / f'iter_{iteration}.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_10.pth'))
    return tmp_path


def current(run):
    return (run / 'last_checkpoint').read_text()


def test_whole_checkpoint_is_left_alone(run):
    warnings = []
    choose_whole_checkpoint(run, warnings.append)
    assert current(run) == str(run / 'iter_10.pth')
    assert warnings == []
    choose_whole_checkpoint(run / 'nowhere', warnings.append)
    assert warnings == []


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-100])


def change_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    'damage', [cut_short, change_a_byte, os.unlink, lambda path: path.write_text('')]
)
def test_checkpoint_before_a_damaged_one_is_used(damage, run):
    damage(run / 'iter_10.pth')
    assert not is_whole(run / 'iter_10.pth')
    warnings = []
    choose_whole_checkpoint(run, warnings.append)
    assert current(run) == str(run / 'iter_9.pth')
    assert warnings == [
        f'{run}/iter_10.pth is missing or cut short; resuming from {run}/iter_9.pth'
    ]


def test_copies_with_names_of_their_own_are_passed_over(run):
    for name in ('iter_11_backup.pth', 'iter_.pth', 'iter_12.pth.tmp', 'best_mIoU_iter_9.pth'):
        torch.save({}, run / name)
    os.unlink(run / 'iter_10.pth')
    choose_whole_checkpoint(run, lambda warning: None)
    assert current(run) == str(run / 'iter_9.pth')


def test_kill_while_the_name_of_the_last_is_written(run):
    (run / 'last_checkpoint').write_text('')
    choose_whole_checkpoint(run, lambda warning: None)
    assert current(run) == str(run / 'iter_10.pth')


def test_no_whole_checkpoint(run):
    cut_short(run / 'iter_9.pth')
    cut_short(run / 'iter_10.pth')
    with pytest.raises(RuntimeError, match=r'iter_10\.pth, which is missing .* without --resume'):
        choose_whole_checkpoint(run)


def test_the_command_of_the_readme(run):
    text = (ROOT / 'configs/cac/README.md').read_text()
    [code] = re.findall(r'^python -c "(.+ choose_whole_checkpoint .+)"$', text, re.MULTILINE)
    cut_short(run / 'iter_10.pth')
    exec(code.replace('WORK_DIR', str(run)), {})
    assert current(run) == str(run / 'iter_9.pth')


def test_sharded_checkpoint_is_whole(tmp_path):
    assert is_whole(tmp_path)


@pytest.fixture
def config(tmp_path, monkeypatch):
    """The config, which runs in this process and saves every iteration."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'config.py').write_text(CONFIG)
    config = Config.fromfile('config.py')
    config.merge_from_dict(
        {
            'work_dir': 'run',
            'experiment_name': tmp_path.name,
            'train_dataloader.num_workers': 0,
            'train_dataloader.persistent_workers': False,
            'val_dataloader.num_workers': 0,
            'val_dataloader.persistent_workers': False,
            'default_hooks.checkpoint.max_keep_ckpts': 2,
            'default_hooks.checkpoint.interval': 1,
        }
    )
    return config


def test_full_disk_leaves_the_earlier_checkpoint_whole(config):
    put = LocalBackend.put

    def fill_up(self, content, path):
        if not str(path).endswith('iter_4.pth'):
            return put(self, content, path)
        put(self, content[: len(content) // 2], path)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with mock.patch.object(LocalBackend, 'put', fill_up), pytest.raises(OSError, match='No space'):
        Runner.from_cfg(config).train()
    assert load_checkpoint('run/iter_3.pth')[1]['iter'] == 3
    # With space again the run goes on from there.
    config.merge_from_dict({'resume': True, 'experiment_name': 'space_again'})
    runner = Runner.from_cfg(config)
    runner.train()
    assert runner.iter == 8
    assert is_whole('run/iter_8.pth')


def test_runner_that_loads_before_hooks_is_told_beforehand(config):
    """FSDP's runner, here on one device: as the readme of CAC says."""
    config.merge_from_dict(
        {
            'runner_type': 'FlexibleRunner',
            'strategy': dict(type='SingleDeviceStrategy'),
            'train_cfg.max_iters': 3,
        }
    )
    RUNNERS.build(config).train()
    cut_short(Path('run/iter_3.pth'))
    config.merge_from_dict({'resume': True, 'experiment_name': f'{config.experiment_name}-2'})
    with pytest.raises((RuntimeError, OSError, EOFError)):
        RUNNERS.build(config).train()
    choose_whole_checkpoint('run')
    config.experiment_name += '-3'
    runner = RUNNERS.build(config)
    starts = []
    runner.register_hook(Start(starts))
    runner.train()
    assert (starts, runner.iter) == ([2], 3)
    assert is_whole('run/iter_3.pth')


class Start(Hook):
    """Notes the iterations that trainings start with."""

    def __init__(self, starts):
        self.starts = starts

    def before_train(self, runner):
        self.starts.append(runner.iter)

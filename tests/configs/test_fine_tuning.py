"""Fine-tuning configs: a training that starts from another's checkpoint, stopped and resumed."""

from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from mmseg_ctx.checkpoints.loading import load_checkpoint
from tests.configs.training import prepare, runner, schedule
from tests.helpers import ROOT

CONFIG = 'configs/dmnet/dmnet_r101-d8_4xb4-20k_voc12trainval-512x512.py'


class Start(Hook):
    """Keeps the iteration and the weights that a training starts with."""

    def before_train(self, runner):
        self.iteration = runner.iter
        self.weights = {name: value.clone() for name, value in runner.model.state_dict().items()}


@pytest.fixture
def config(folder):
    """Return the config, shrunken, once the training that its ``load_from`` names is done."""
    config = prepare(ROOT / CONFIG, 'pascal_voc12_aug')
    first = Path(config.load_from)
    runner(config, load_from=None, work_dir=str(first.parent)).train()
    (first.parent / 'iter_2.pth').rename(first)
    return config


def train(config, **changes):
    """Train; return what it started with and where it ended."""
    training = runner(config, **changes)
    start = Start()
    training.register_hook(start)
    training.train()
    return start, training.iter


def assert_same_weights(weights, path):
    saved, _ = load_checkpoint(path)
    assert weights.keys() == saved.keys()
    assert all(torch.equal(weights[name], saved[name]) for name in saved)


def test_resumes_from_its_own_last_checkpoint(config):
    start, end = train(config)
    assert (start.iteration, end) == (0, 2)
    assert_same_weights(start.weights, config.load_from)
    start, end = train(config, resume=True, **schedule(4))
    assert (start.iteration, end) == (2, 4)
    assert_same_weights(start.weights, 'work_dir/iter_2.pth')


def test_passes_over_a_last_checkpoint_that_was_cut_short(config):
    train(config, **{**schedule(3), 'default_hooks.checkpoint.interval': 1})
    last = Path('work_dir/iter_3.pth')
    last.write_bytes(last.read_bytes()[:-100])
    start, end = train(config, resume=True, **schedule(4))
    assert (start.iteration, end) == (2, 4)
    assert_same_weights(start.weights, 'work_dir/iter_2.pth')


def test_without_a_checkpoint_of_its_own_it_starts_with_the_weights_of_the_other(config):
    start, end = train(config, resume=True)
    assert (start.iteration, end) == (0, 2)
    assert_same_weights(start.weights, config.load_from)


def test_one_of_its_own_checkpoints_can_be_named(config):
    train(config, **{**schedule(3), 'default_hooks.checkpoint.interval': 1})
    start, end = train(config, resume=True, load_from='work_dir/iter_1.pth', **schedule(2))
    assert (start.iteration, end) == (1, 2)
    assert_same_weights(start.weights, 'work_dir/iter_1.pth')

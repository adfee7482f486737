"""Short trainings of every head by MMEngine's runner."""

import os
import signal
from pathlib import Path
from unittest import mock

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner, runner
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from mmseg_ctx.checkpoints.loading import PARALLEL_PREFIX
from mmseg_ctx.hooks import ExactResumeHook
from tests.heads.contract import HEADS, build_random, changed, features, labels, total
from tests.helpers import data_samples
from tests.small_models import model_config, scenes_loader


class Losses(Hook):
    """Keeps the losses by iteration, and calls a function after one of them."""

    def __init__(self, stop, end):
        self.stop, self.end = stop, end
        self.losses = {}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses[runner.iter + 1] = {name: value.detach() for name, value in outputs.items()}
        if runner.iter + 1 == self.stop:
            self.end()


def kill():
    """Kill this process."""
    os.kill(os.getpid(), signal.SIGKILL)


# What MMEngine wraps models in, without the GPU that it takes for granted.
DISTRIBUTED = dict(
    launcher='pytorch',
    cfg=dict(
        model_wrapper_cfg=dict(
            type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False
        )
    ),
)


def train(
    head, folder, batch=2, iterations=4, flip=0.5, killed_after=None, options={}, **arguments
):
    """Train a row of ``HEADS`` in a folder, on small scenes, and save every second iteration.

    ``batch`` counts the images of a process, ``options`` are the runner's and ``arguments`` the
    head's. Returns the losses by iteration, and the weights before and after.
    """
    torch.manual_seed(0)
    loader = scenes_loader(2 * iterations)
    loader['sampler']['shuffle'] = True
    loader['dataset']['pipeline'].insert(1, dict(type='RandomFlip', prob=flip))
    model = model_config(changed(HEADS[head], **arguments))
    model['data_preprocessor']['size'] = (40, 64)
    # About the machine, for each run anew.
    with mock.patch.object(runner, 'collect_env', dict):
        run = Runner(
            model=model,
            work_dir=str(folder),
            train_dataloader=dict(loader, batch_size=batch, num_workers=0),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=100),
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1)),
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2)),
            custom_hooks=[ExactResumeHook(), losses := Losses(killed_after, kill)],
            randomness=dict(seed=0),
            log_level='ERROR',
            default_scope='mmseg',
            experiment_name=Path(folder).name,
            **options,
        )
    before = weights(run.model)
    run.train()
    return losses.losses, before, weights(run.model)


def weights(model):
    """Return copies of a model's parameters and statistics, by name without a wrapper's prefix."""
    return {
        name.removeprefix(PARALLEL_PREFIX): value.clone()
        for name, value in model.state_dict().items()
    }


def train_alike(rank, folder, batch=1, options=DISTRIBUTED):
    """Train every head so that a step on two images is that of two processes with one each.

    Returns what :func:`train` returns, by head.
    """
    # What a batch shares, batch norm's statistics and the oracle's prototypes, is each image's.
    arguments = dict(norm_cfg=dict(type='GN', num_groups=1), dropout_ratio=0)
    return {
        head: train(
            head,
            folder / head,
            batch,
            iterations=2,
            flip=0.0,
            options=options,
            cac=dict(oracle_scope='image'),
            **arguments,
        )
        for head in HEADS
    }


def train_sharded(rank):
    """Train every head for two steps, as it is, and with FSDP2 around each layer with weights.

    Returns, by head, the pair of the losses, and the pair of the weights afterwards.
    """
    mesh = init_device_mesh('cpu', (2,))
    losses, weights = {}, {}
    for head in HEADS:
        alone, sharded = build_random(head), build_random(head)
        for module in reversed(list(sharded.modules())):
            if list(module.parameters(recurse=False)):
                fully_shard(module, mesh=mesh)
        fully_shard(sharded, mesh=mesh)
        losses[head], weights[head] = zip(*map(_two_steps, (sharded, alone)), strict=True)
    return losses, weights


def _two_steps(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        losses = model(features('cpu'), data_samples(labels('cpu')), mode='loss')
        optimizer.zero_grad()
        total(losses).backward()
        optimizer.step()
    weights = {name: value.detach() for name, value in model.named_parameters()}
    weights = {n: w.full_tensor() if isinstance(w, DTensor) else w for n, w in weights.items()}
    return {name: value.detach() for name, value in losses.items()}, weights

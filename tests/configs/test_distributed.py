"""Training in two processes through MMEngine's runner: every method, on the CPU with gloo."""

import os

import torch
from mmengine import Config
from mmengine.runner import Runner

from tests.helpers import ROOT, run_processes

CONFIGS = {
    method: f'{method}/{name}_r18-small_1xb16-600_context-scenes-128x128.py'
    for method, name in {
        'cacnet': 'cacnet',
        'acnet': 'acnet',
        'dmnet': 'dmnet',
        'ctnet': 'ctnet',
        'cac': 'cac-dmnet',
    }.items()
}


def train(rank, folder):
    """Train each method for ten iterations; return the parameters before and after."""
    os.environ['LOCAL_RANK'] = str(rank)
    os.chdir(folder)
    return {method: train_one(ROOT / 'configs' / path) for method, path in CONFIGS.items()}


def train_one(path):
    config = Config.fromfile(path)
    config.merge_from_dict(
        {
            'work_dir': f'work_dirs/{path.parent.name}',
            'experiment_name': path.parent.name,
            'launcher': 'pytorch',
            # What MMEngine wraps models in, without the GPU that it takes for granted.
            'model_wrapper_cfg': dict(
                type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False
            ),
            'train_dataloader.batch_size': 2,
            'train_dataloader.num_workers': 0,
            'train_dataloader.persistent_workers': False,
            'train_cfg.max_iters': 10,
            'val_cfg': None,
            'val_dataloader': None,
            'val_evaluator': None,
        }
    )
    runner = Runner.from_cfg(config)
    model = runner.model.module
    before = parameters(model)
    runner.train()
    return before, parameters(model)


def parameters(model):
    return torch.cat([value.detach().flatten() for value in model.parameters()])


def test_parameters_are_equal_on_both_ranks_after_training(tmp_path):
    first, second = run_processes(train, tmp_path, folder=tmp_path)
    for method in CONFIGS:
        assert torch.isfinite(first[method][1]).all()
        assert not torch.equal(*first[method])
        assert torch.equal(first[method][1], second[method][1]), method

"""What several tests share."""

import os
import resource
import runpy
import socket
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from mmseg_ctx.utils.commandline import run

DATA = Path(__file__).parent / 'data'
ROOT = Path(__file__).parent.parent


def data_samples(labels):
    """Return a data sample for each label map of ``labels`` ``[B, H, W]``."""
    samples = []
    for label in labels:
        size = tuple(label.shape)
        sample = SegDataSample(metainfo={'img_shape': size, 'ori_shape': size, 'pad_shape': size})
        sample.gt_sem_seg = PixelData(data=label[None])
        samples.append(sample)
    return samples


def exit_status(main, *arguments):
    """Return the exit status of a tool's ``main``, called with these arguments."""
    with pytest.raises(SystemExit) as end:
        run(main, list(map(str, arguments)))
    return end.value.code or 0


def error_line(capsys, main, *arguments):
    """Return the one line of standard error with which such a call ends, an error of the user."""
    assert exit_status(main, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('error: ')
    return line


def free_port():
    """Return a port of this machine that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


@contextmanager
def full_disk(size=8192):
    """Let no file grow beyond ``size`` bytes; Python ignores the signal and gets an error."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def setup_arguments():
    """Return the arguments of ``setup`` in ``setup.py``."""
    with mock.patch('setuptools.setup') as setup:
        runpy.run_path(str(ROOT / 'setup.py'))
    return setup.call_args.kwargs


class Uploads(TorchFunctionMode):
    """Collects the calls that make a tensor of Python's numbers, or bring one from the CPU."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        makes = func in (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor)
        comes = any(tensor.device.type == 'cpu' for tensor in tensors)
        if comes or (makes and not isinstance(args[-1], torch.Tensor)):
            self.found.append(func)
        return out


def assert_relative(actual, expected, tolerance):
    """Assert that the largest difference is at most ``tolerance`` times the largest value."""
    actual, expected = (torch.as_tensor(tensor).double().cpu() for tensor in (actual, expected))
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    error = (actual - expected).abs().max() / expected.abs().max().clamp(min=1e-30)
    assert error <= tolerance, f'relative error {error:.2e} > {tolerance:.0e}'


def _run_rank(rank, worker, world_size, port, results, args):
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), LOCAL_RANK=str(rank))
    torch.set_num_threads(1)
    dist.init_process_group('gloo', rank=rank, world_size=world_size)
    try:
        torch.save(worker(rank, *args), results / f'{rank}.pt')
        dist.barrier()
    finally:
        dist.destroy_process_group()


def run_processes(worker, *args, folder, world_size=2):
    """Run ``worker(rank, *args)`` in processes that share a gloo group; return what each returned.

    MMEngine's ``launcher='pytorch'`` needs CUDA, so the group is made here. ``worker`` is a
    function of a module's top level, and what it returns is written into ``folder``.
    """
    port = free_port()
    with _without_cuda():
        mp.start_processes(
            _run_rank,
            (worker, world_size, port, folder, args),
            nprocs=world_size,
            start_method='forkserver',
        )
    return [torch.load(folder / f'{rank}.pt', weights_only=False) for rank in range(world_size)]


def run_in_process(worker, *args, path, **kwargs):
    """Run a function of a module's top level in a process; return its exit code.

    What it returns is written to ``path``.
    """
    server = mp.get_context('forkserver')
    with _without_cuda():
        process = server.Process(target=_run_and_save, args=(path, worker, args, kwargs))
        process.start()
    process.join()
    return process.exitcode


def _run_and_save(path, worker, args, kwargs):
    torch.set_num_threads(1)
    torch.save(worker(*args, **kwargs), path)


def _without_cuda():
    """Let processes that start meanwhile see no CUDA device, which MMEngine would use."""
    return mock.patch.dict(os.environ, CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1')


# The server has imported what processes need, so that each of them starts at once.
mp.set_forkserver_preload(['mmseg.models', 'mmseg_ctx', 'mmengine.runner'])

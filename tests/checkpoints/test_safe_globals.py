import pickle
import pickletools
import zipfile

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, Runner
from torch import nn

import mmseg_ctx  # noqa: F401  (registers the safe globals)
from mmseg_ctx.checkpoints.safe_globals import history_buffer_statistic


class Regression(nn.Module):
    """The least that MMEngine's runner trains."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def train_step(self, data, optim_wrapper):
        loss = self.layer(torch.stack(data)).square().mean()
        optim_wrapper.update_params(loss)
        return dict(loss=loss.detach())


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp('run')
    runner = Runner(
        model=Regression(),
        work_dir=str(folder),
        train_dataloader=dict(
            batch_size=2,
            dataset=list(torch.rand(8, 2)),
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='pseudo_collate'),
        ),
        train_cfg=dict(by_epoch=False, max_iters=3),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        param_scheduler=dict(type='PolyLR', power=0.9, by_epoch=False, end=3),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', interval=3, by_epoch=False),
            logger=dict(type='LoggerHook', interval=1),
        ),
        default_scope='mmengine',
        experiment_name='safe',
        cfg=Config(),
    )
    runner.train()
    return folder / 'iter_3.pth'


def test_a_runners_checkpoint_loads(checkpoint):
    # Without our names the file is refused, so the test below cannot pass by itself.
    unsafe = pickle_globals(checkpoint)
    assert {'HistoryBuffer', 'getattr'} <= {name.split('.')[-1] for name in unsafe}
    loaded = torch.load(checkpoint, weights_only=True)
    history = loaded['message_hub']['log_scalars']['train/loss']
    assert isinstance(history, HistoryBuffer)
    assert len(history.data[0]) == 3
    assert history.statistics('mean') == pytest.approx(history.data[0].mean())


def pickle_globals(path):
    """Name the globals that the pickle in a checkpoint refers to."""
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith('data.pkl'))
        data = archive.read(name)
    return {arg.replace(' ', '.') for op, arg, _ in pickletools.genops(data) if op.name == 'GLOBAL'}


def test_still_loads_after_mmengine_loaded_one(checkpoint):
    CheckpointLoader.load_checkpoint(str(checkpoint))
    assert 'state_dict' in torch.load(checkpoint, weights_only=True)


@pytest.mark.parametrize('number', [np.float64(0.5), np.float32(0.5), np.int64(3), np.bool_(True)])
def test_numpy_numbers_and_arrays(number, tmp_path):
    torch.save({'number': number, 'array': np.array([number])}, tmp_path / 'a.pth')
    loaded = torch.load(tmp_path / 'a.pth', weights_only=True)
    assert loaded['number'] == number
    assert loaded['array'].tolist() == [number]


def test_names_of_numpy_1_load(tmp_path):
    torch.save(np.array([1.0, 2.0]), tmp_path / 'a.pth')
    with zipfile.ZipFile(tmp_path / 'a.pth') as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / 'b.pth', 'w') as archive:
        for name, data in files.items():
            archive.writestr(name, data.replace(b'numpy._core', b'numpy.core'))
    assert torch.load(tmp_path / 'b.pth', weights_only=True).tolist() == [1.0, 2.0]


class Calls:
    """Pickles as a call of ``function`` with ``arguments``."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def touch(path):
    """Leave a trace if unpickling runs this."""
    path.touch()


@pytest.mark.parametrize(
    'payload',
    [
        lambda trace: Calls(touch, trace),
        lambda trace: Calls(eval, f'open({str(trace)!r}, "w")'),
        lambda trace: Calls(getattr, HistoryBuffer, '__init__'),
        lambda trace: Calls(getattr, HistoryBuffer, 'register_statistics'),
        lambda trace: Calls(getattr, Calls(getattr, HistoryBuffer, 'mean'), '__globals__'),
        lambda trace: Calls(getattr, np.ndarray, 'tofile'),
        lambda trace: Calls(getattr, HistoryBuffer([1.0], [1]), 'mean'),
    ],
)
def test_pickles_that_run_code_are_refused(payload, tmp_path):
    trace = tmp_path / 'trace'
    torch.save({'state_dict': payload(trace)}, tmp_path / 'bad.pth')
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / 'bad.pth', weights_only=True)
    assert not trace.exists()


def test_the_stand_in_for_getattr():
    assert history_buffer_statistic(HistoryBuffer, 'mean') is HistoryBuffer.mean
    with pytest.raises(pickle.UnpicklingError, match="got '__class__' of"):
        history_buffer_statistic(HistoryBuffer, '__class__')
    with pytest.raises(pickle.UnpicklingError, match="got 'mean' of"):
        history_buffer_statistic(np.ndarray, 'mean')

import pickle
import pickletools
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import CheckpointLoader, Runner, save_checkpoint
from torch import nn
from torch._tensor import _rebuild_from_type_v2

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
        default_scope='mmseg',
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


def test_mmengine_itself_gets_the_stand_ins(tmp_path, monkeypatch):
    """Its fork adds NumPy's own constructors for each load, under the names of the stand-ins."""
    content = {'number': np.float32(0.5), 'array': np.ones(3, 'uint8'), 'buffer': HistoryBuffer()}
    torch.save(content, tmp_path / 'a.pth')
    calls, torch_load = [], torch.load

    def load(*args, **kwargs):
        calls.append(kwargs.get('weights_only', True))
        named = [pair[1] for pair in torch.serialization.get_safe_globals() if type(pair) is tuple]
        bare = [each for each in torch.serialization.get_safe_globals() if type(each) is not tuple]
        assert not {f'{each.__module__}.{each.__qualname__}' for each in bare} & set(named)
        return torch_load(*args, **kwargs)

    monkeypatch.setattr(torch, 'load', load)
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth'))
    assert calls == [True]
    assert loaded['number'] == 0.5
    assert loaded['array'].tolist() == [1, 1, 1]
    assert type(loaded['buffer']) is HistoryBuffer


def test_a_resumed_run_has_numpys_own_arrays(tmp_path):
    hub = MessageHub('saved')
    hub.update_scalar('loss', 1.0)
    hub.update_info('palette', np.arange(6).reshape(2, 3))
    hub.update_info('best', np.float64(0.5))
    save_checkpoint({'message_hub': hub.state_dict()}, str(tmp_path / 'a.pth'))
    resumed = MessageHub('resumed')
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth'))
    resumed.load_state_dict(loaded['message_hub'])
    palette = resumed.get_info('palette')
    assert type(palette) is np.ndarray
    assert palette.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert type(resumed.get_info('best')) is np.float64
    resumed.update_scalar('loss', 3.0)
    assert resumed.get_scalar('loss').mean() == 2


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
    assert history_buffer_statistic(HistoryBuffer, 'mean') == 'mean'
    with pytest.raises(pickle.UnpicklingError, match="got '__class__' of"):
        history_buffer_statistic(HistoryBuffer, '__class__')
    with pytest.raises(pickle.UnpicklingError, match="got 'mean' of"):
        history_buffer_statistic(np.ndarray, 'mean')


def test_no_pickle_calls_a_statistic(tmp_path):
    """PyTorch calls what a pickle gives ``_rebuild_from_type_v2``, on anything of the pickle's."""
    buffer = OrderedDict()
    buffer._log_history = buffer._count_history = torch.ones(1).expand(9)
    mean = Calls(getattr, HistoryBuffer, 'mean')
    call = Calls(_rebuild_from_type_v2, mean, torch.Tensor, (buffer, None), {})
    torch.save(call, tmp_path / 'a')
    with pytest.raises(TypeError, match="'str' object is not callable"):
        torch.load(tmp_path / 'a', weights_only=True)

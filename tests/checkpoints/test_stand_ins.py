"""Checkpoints of MMEngine and hostile ones, with what stands in for NumPy and HistoryBuffer."""

import io
import pickle
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import checkpoint as mmengine_checkpoint
from torch._tensor import _rebuild_from_type_v2

from mmseg_ctx.checkpoints import stand_ins
from mmseg_ctx.checkpoints.loading import load_checkpoint
from tests.checkpoints.hostile import seeds
from tests.checkpoints.hostile.seeds import Calls
from tests.helpers import ROOT

RECONSTRUCT, _, _ = np.zeros(0).__reduce__()
SCALAR, _ = np.float64(0).__reduce__()


def load(content):
    """Save what is no file yet, and load it with the stand-ins."""
    file = io.BytesIO()
    torch.save(content, file)
    file.seek(0)
    with stand_ins.only_stand_ins():
        return torch.load(file, weights_only=True)


def test_a_runners_checkpoint_loads(tmp_path):
    torch.save(seeds.checkpoint(), tmp_path / 'a.pth')
    registered = torch.serialization.get_safe_globals()
    state_dict, meta = load_checkpoint(tmp_path / 'a.pth')
    assert set(torch.serialization.get_safe_globals()) == set(registered)
    assert next(iter(state_dict)) == 'decode_head.proj.0.weight'
    assert meta['iter'] == 3


def test_upstream_mmengine_loads_and_resumes_its_own_checkpoints(tmp_path, monkeypatch):
    torch.save(seeds.checkpoint(), tmp_path / 'a.pth')
    registered = torch.serialization.get_safe_globals()
    monkeypatch.delattr(mmengine_checkpoint, 'get_torch_safe_globals', raising=False)
    stand_ins.help_upstream_mmengine()
    try:
        # As upstream: with PyTorch's default of 2.6.
        loaded = torch.load(tmp_path / 'a.pth', weights_only=True)
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(registered)
    resumed = MessageHub('resumed')
    resumed.load_state_dict(loaded['message_hub'])
    palette = resumed.get_info('palette')
    assert type(palette) is np.ndarray
    assert palette.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert type(resumed.get_info('best_score')) is np.float64
    assert resumed.get_scalar('train/loss').mean() == 2
    resumed.update_scalar('train/loss', 6.0)
    assert resumed.get_scalar('train/loss').mean() == 3


def test_constructors_that_others_registered_are_not_used(tmp_path):
    torch.save({'a': torch.ones(1), 'b': np.array([None])}, tmp_path / 'a.pth')
    unsafe = [RECONSTRUCT, np.ndarray, np.dtype, type(np.dtype('O'))]
    message = "it holds an array of the type 'O8', which is not numeric"
    with torch.serialization.safe_globals(unsafe), pytest.raises(ValueError, match=message):
        load_checkpoint(tmp_path / 'a.pth')


@pytest.mark.parametrize('order', '<>')
@pytest.mark.parametrize('code', stand_ins.CODES)
def test_numbers_of_every_type(code, order):
    values = np.array([[1, 0, 1], [0, 1, 1]], np.dtype(code).newbyteorder(order))
    content = {
        'array': values,
        'transposed': values.T,
        'empty': values[:0],
        'point': np.array(values[0, 0]),
        'large': np.ones(2000, values.dtype),
    }
    loaded = load({**content, 'number': values[1, 2]})
    assert type(loaded['number']) is type(values[1, 2])
    assert loaded['number'] == 1
    for name, expected in content.items():
        array = loaded[name].array
        assert array.dtype == np.dtype(code)
        assert array.flags.f_contiguous == expected.flags.f_contiguous
        assert array.flags.writeable
        np.testing.assert_array_equal(array, expected)


def dtype(code, state=None):
    return Calls(np.dtype, code, False, True, state=state)


def array(shape, code, buffer):
    state = 1, shape, code if isinstance(code, Calls) else dtype(code), False, buffer
    return Calls(RECONSTRUCT, np.ndarray, (0,), b'b', state=state)


def plain_state(**changes):
    state = dict(
        version=3, order='<', subarray=None, names=None, fields=None, size=-1, align=-1, flags=0
    )
    return tuple((state | changes).values())


# Each of these made NumPy read memory of the file's choosing, or would make it.
HOSTILE = {
    'object array by a call': Calls(np.ndarray, (1,), dtype('O'), b'AAAAAAAA'),
    'array by a call without a buffer': Calls(np.ndarray, (2**40,), dtype('f8')),
    'another type of array': Calls(RECONSTRUCT, np.dtype, (0,), b'b'),
    'object array': array((1,), 'O8', b'AAAAAAAA'),
    'object array of a list': array((1,), 'O8', [1]),
    'object array, with bar': array((1,), '|O8', b'AAAAAAAA'),
    'void': array((1,), 'V8', b'AAAAAAAA'),
    'text': array((1,), 'U2', b'A\0\0\0A\0\0\0'),
    'date': array((1,), 'M8', b'AAAAAAAA'),
    'structure': array((1,), 'f4,O', b'AAAAAAAA' * 2),
    'sub-array': array((1,), '(100000000,)f8', b'AAAAAAAA'),
    'type as a list': array((1,), [('a', 'O')], b'AAAAAAAA'),
    'no type': array((1,), Calls(OrderedDict), b'AAAAAAAA'),
    'type with fields': array(
        (1,), dtype('f8', plain_state(names=('a',), fields={'a': (None, 0)})), b'AAAAAAAA'
    ),
    'type with a sub-array': array(
        (1,), dtype('f8', plain_state(subarray=(dtype('O'), (1,)))), b'AAAAAAAA'
    ),
    'type with a size': array((1,), dtype('f8', plain_state(size=2**20)), b'AAAAAAAA'),
    'type with flags': array((1,), dtype('f8', plain_state(flags=63)), b'AAAAAAAA'),
    'type with metadata': array((1,), dtype('f8', (*plain_state(), {})), b'AAAAAAAA'),
    'type of another byte order': array((1,), dtype('f8', plain_state(order='x')), b'AAAAAAAA'),
    'too short a buffer': array((2,), 'f8', b'AAAAAAAA'),
    'too long a buffer': array((1,), 'f8', b'AAAAAAAAA'),
    'no buffer': array((2**40,), 'f8', b''),
    'a buffer of None': array((1,), 'f8', None),
    'two negative shapes': array((-1, -1), 'f8', b'AAAAAAAA'),
    'product of no 64 bits': array((2**32, 2**32), 'f8', b''),
    'empty, but with strides of no 64 bits': array((0, 2**40, 2**40), 'f8', b''),
    'shape of no integers': array((1.0,), 'f8', b'AAAAAAAA'),
    'shape as a list': array([1], 'f8', b'AAAAAAAA'),
    'more dimensions than NumPy has': array((1,) * 65, 'f8', b'AAAAAAAA'),
    'a number of objects': Calls(SCALAR, dtype('O'), b'AAAAAAAA'),
    'a number with no bytes': Calls(SCALAR, dtype('f8'), b''),
    'a number with more bytes': Calls(SCALAR, dtype('f8'), b'AAAAAAAA' * 2),
    'bytes by a call': Calls(bytes, 2**40),
}
CHILD = """
import resource, sys
from mmseg_ctx.checkpoints import loading, paddle
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        (paddle.load_pdparams if path.endswith('.pdparams') else loading.load_checkpoint)(path)
        print('loaded')
    except Exception as error:
        print(type(error).__name__, ' '.join(str(error).split()))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 2**10, 'MiB')
"""


def test_refuses_hostile_arrays_and_lives(tmp_path):
    """In a child, since some of these ended the process."""
    paths = []
    for name, content in HOSTILE.items():
        paths += [tmp_path / f'{name}.pdparams', tmp_path / f'{name}.pth']
        paths[-2].write_bytes(pickle.dumps(OrderedDict(a=content), 2))
        torch.save(OrderedDict(a=content), paths[-1])
    child = subprocess.run(
        [sys.executable, '-c', CHILD, *paths], cwd=ROOT, capture_output=True, text=True
    )
    assert child.returncode == 0, child.stderr
    *lines, memory = child.stdout.splitlines()
    for path, line in zip(paths, lines, strict=True):
        # A refusal of ours: PyTorch alone would not have got so far as to make an array.
        assert line.startswith('ValueError '), (path, line)
        assert 'asks for' not in line or 'another type' in line, (path, line)
    assert int(memory.removesuffix(' MiB')) < 100


# A tensor of any length takes no memory until it is compared or taken apart.
LONG = torch.ones(1).expand(2**40)


def test_a_type_and_an_array_take_no_other_state():
    for state in (0, (), (3, '<'), plain_state(order=b'<'), LONG, (3, '<', *[LONG] * 6)):
        with pytest.raises(pickle.UnpicklingError, match='no plain number'):
            stand_ins.STAND_INS['numpy.dtype']('f8').__setstate__(state)
        with pytest.raises(pickle.UnpicklingError, match='not that of NumPy'):
            stand_ins.PickledArray().__setstate__(state)


def touch(path):
    """Leave a trace if unpickling runs this."""
    path.touch()


@pytest.mark.parametrize(
    'payload',
    [
        lambda trace: Calls(touch, trace),
        lambda trace: Calls(eval, f'open({str(trace)!r}, "w")'),
        lambda trace: Calls(getattr, HistoryBuffer, '__init__'),
        lambda trace: Calls(getattr, Calls(getattr, HistoryBuffer, 'mean'), '__globals__'),
        lambda trace: Calls(getattr, np.ndarray, 'tofile'),
        lambda trace: Calls(getattr, HistoryBuffer([1.0], [1]), 'mean'),
        # PyTorch calls what a pickle gives this function, on anything of the pickle's.
        lambda trace: Calls(
            _rebuild_from_type_v2, Calls(getattr, HistoryBuffer, 'mean'), torch.Tensor, (), {}
        ),
        lambda trace: Calls(HistoryBuffer, [1.0], [1]),
    ],
)
def test_pickles_that_run_code_are_refused(payload, tmp_path):
    trace = tmp_path / 'trace'
    with pytest.raises((pickle.UnpicklingError, TypeError)):
        load({'state_dict': payload(trace)})
    assert not trace.exists()


def buffer_state(**changes):
    counts = np.array([1, 1])
    state = {'max_length': 9, '_log_history': np.array([1.0, 3.0]), '_count_history': counts}
    return state | changes


def load_buffer(*states):
    """Load a checkpoint of one HistoryBuffer, which is given these states."""
    made = b'\x80\x02cmmengine.logging.history_buffer\nHistoryBuffer\n)\x81'
    for state in states:
        made += pickle.dumps(state, 2)[2:-1] + b'b'  # without the operations of begin and end
    file = io.BytesIO()
    torch.save({}, file)
    with stand_ins.only_stand_ins():
        file = io.BytesIO(seeds.with_pickle(file.getvalue(), made + b'.'))
        return torch.load(file, weights_only=True)


def test_a_history_buffer_is_mmengines_own():
    for statistics in ({}, dict(statistics_methods={'mean': OrderedDict, 'harmful': OrderedDict})):
        buffer = load_buffer(buffer_state(**statistics))
        assert type(buffer) is HistoryBuffer
        assert set(vars(buffer)) == {'max_length', '_log_history', '_count_history'}
        assert type(buffer.data[0]) is type(buffer.data[1]) is np.ndarray
        assert buffer.statistics('mean') == 2
        assert HistoryBuffer._statistics_methods['mean'] is HistoryBuffer.mean
        assert 'harmful' not in HistoryBuffer._statistics_methods
        buffer.update(5)
        assert buffer.mean() == 3


HOSTILE_STATES = {
    'a method': [buffer_state(mean=OrderedDict)],
    'another attribute': [buffer_state(__class__=OrderedDict)],
    'no numbers': [buffer_state(_log_history=[1.0, 2.0])],
    'numbers of two dimensions': [buffer_state(_log_history=np.ones((2, 2)))],
    'fewer counts': [buffer_state(_count_history=np.ones(1))],
    'no length': [buffer_state(max_length='a')],
    'less': [{'max_length': 9}],
    'no dictionary': [(1, 2)],
    'two states': [buffer_state(), buffer_state()],
}


def test_refuses_a_history_buffer_of_another_state():
    before = dict(vars(HistoryBuffer)), dict(HistoryBuffer._statistics_methods)
    for states in HOSTILE_STATES.values():
        with pytest.raises(pickle.UnpicklingError, match=r'it holds a HistoryB|Can only build'):
            load_buffer(*states)
    assert (dict(vars(HistoryBuffer)), dict(HistoryBuffer._statistics_methods)) == before

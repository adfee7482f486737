import copy
import io
import pickle
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

import mmseg_ctx  # noqa: F401  (registers the stand-ins)
from mmseg_ctx.checkpoints.paddle import ALLOWED, load_pdparams
from mmseg_ctx.checkpoints.stand_ins import CODES, STAND_INS, PickledArray
from tests.checkpoints.hostile.seeds import with_pickle
from tests.helpers import ROOT

RECONSTRUCT, (_, _, _), _ = np.zeros(0).__reduce__()
SCALAR, _ = np.float64(0).__reduce__()


class Calls:
    """Pickles as a call of ``function`` with ``arguments``, and then ``state``."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = function, arguments, state

    def __reduce__(self):
        return self.reduced


def dtype(code, state=None):
    return Calls(np.dtype, code, False, True, state=state)


def array(shape, code, buffer, version=1, fortran=False):
    state = version, shape, code if isinstance(code, Calls) else dtype(code), fortran, buffer
    return Calls(RECONSTRUCT, np.ndarray, (0,), b'b', state=state)


def number(code, buffer):
    return Calls(SCALAR, dtype(code), buffer)


def plain_state(**changes):
    state = dict(
        version=3, order='<', subarray=None, names=None, fields=None, size=-1, align=-1, flags=0
    )
    return tuple((state | changes).values())


# Each of these made NumPy read memory of the file's choosing, or would make it.
OBJECTS = {
    'object array by a call': Calls(np.ndarray, (1,), dtype('O'), b'AAAAAAAA'),
    'array by a call': Calls(np.ndarray, (1,), dtype('f8'), b'AAAAAAAA'),
    'array by a call without a buffer': Calls(np.ndarray, (2**40,), dtype('f8')),
    'another type of array': Calls(RECONSTRUCT, np.dtype, (0,), b'b'),
    'object array': array((1,), 'O8', b'AAAAAAAA'),
    'object array of a list': array((1,), 'O8', [1]),
    'object array, bare code': array((1,), 'O', b'AAAAAAAA'),
    'object array, with bar': array((1,), '|O8', b'AAAAAAAA'),
    'void': array((1,), 'V8', b'AAAAAAAA'),
    'bytes': array((1,), 'S8', b'AAAAAAAA'),
    'text': array((1,), 'U2', b'A\0\0\0A\0\0\0'),
    'date': array((1,), 'M8', b'AAAAAAAA'),
    'time': array((1,), 'm8', b'AAAAAAAA'),
    'complex': array((1,), 'c8', b'AAAAAAAA'),
    'long double': array((1,), 'f16', b'AAAAAAAA' * 2),
    'structure': array((1,), 'f4,O', b'AAAAAAAA' * 2),
    'sub-array': array((1,), '(100000000,)f8', b'AAAAAAAA'),
    'type as an integer': array((1,), 17, b'AAAAAAAA'),
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
    'negative shape': array((-1,), 'f8', b'AAAAAAAA'),
    'two negative shapes': array((-1, -1), 'f8', b'AAAAAAAA'),
    'product of no 64 bits': array((2**32, 2**32), 'f8', b''),
    'product of 64 bits less one': array((2**61 + 1,), 'f8', b'AAAAAAAA'),
    'empty, but with strides of no 64 bits': array((0, 2**40, 2**40), 'f8', b''),
    'shape of no integers': array((1.0,), 'f8', b'AAAAAAAA'),
    'shape as a list': array([1], 'f8', b'AAAAAAAA'),
    'more dimensions than NumPy has': array((1,) * 65, 'f8', b'AAAAAAAA'),
    'another version': array((1,), 'f8', b'AAAAAAAA', version=2),
    'an order of another type': array((1,), 'f8', b'AAAAAAAA', fortran='C'),
    'a number of objects': number('O', b'AAAAAAAA'),
    'a number with no bytes': number('f8', b''),
    'a number with more bytes': number('f8', b'AAAAAAAAA'),
    'bytes by a call': Calls(bytes, 2**40),
}

LOADERS = {
    'torch': 'torch.load(path, weights_only=True)',
    'checkpoint': 'loading.load_checkpoint(path)',
    'paddle': 'paddle.load_pdparams(path)',
}
CHILD = """
import resource, sys, torch
from mmseg_ctx.checkpoints import loading, paddle
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        {load}
        print('loaded')
    except Exception as error:
        print(type(error).__name__, ' '.join(str(error).split()))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 2**10, 'MiB')
"""


@pytest.mark.parametrize('loader', LOADERS)
def test_refuses_hostile_arrays_and_lives(loader, tmp_path):
    """In a child, since some of these ended the process."""
    paths = []
    for i, content in enumerate(OBJECTS.values()):
        paths.append(tmp_path / str(i))
        content = OrderedDict(a=content)
        if loader == 'paddle':
            paths[-1].write_bytes(pickle.dumps(content, 2))
        else:
            torch.save(content, paths[-1])
    child = subprocess.run(
        [sys.executable, '-c', CHILD.format(load=LOADERS[loader]), *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr
    *lines, memory = child.stdout.splitlines()
    for name, line in zip(OBJECTS, lines, strict=True):
        # A refusal of ours, and not of PyTorch's: it would not have got so far without the plugin.
        error = 'UnpicklingError ' if loader == 'torch' else 'ValueError '
        assert line.startswith(error), (name, line)
        assert 'not an allowed global' not in line, (name, line)
    assert int(memory.removesuffix(' MiB')) < 100


def tool_arguments(tmp_path):
    return [sys.executable, ROOT / 'tools/convert_checkpoint.py', 'ctnet', 'a.pdparams', 'b.pth']


def test_the_converter_refuses_an_object_array_in_one_line(tmp_path):
    content = OrderedDict(a=OBJECTS['object array by a call'])
    (tmp_path / 'a.pdparams').write_bytes(pickle.dumps(content, 2))
    child = subprocess.run(tool_arguments(tmp_path), cwd=tmp_path, capture_output=True, text=True)
    assert child.returncode == 2
    assert 'a.pdparams is not a dictionary of Paddle weights' in child.stderr
    assert child.stderr.count('\n') == 1


def test_no_pickle_reaches_anything_of_numpys():
    """What is callable, and whose state can be set, is of this package."""
    added = torch.serialization.get_safe_globals()  # without names: PyTorch's own
    named = {pair[1]: pair[0] for pair in added if isinstance(pair, tuple)}
    assert set(STAND_INS) < set(named)
    for thing in [*named.values(), *ALLOWED.values()]:
        kind = thing if isinstance(thing, type) else type(thing)
        assert kind.__module__.startswith('mmseg_ctx.checkpoints.')
        if kind is not thing:
            assert not hasattr(thing, '__dict__')
            assert not hasattr(thing, '__setstate__')


def test_an_array_is_filled_once():
    filled = STAND_INS['numpy._core.multiarray._reconstruct'](PickledArray, (0,), b'b')
    float64 = STAND_INS['numpy.dtype']('f8', False, True)
    filled.__setstate__((1, (2,), float64, False, np.float64([1, 2]).tobytes()))
    tensor = torch.from_numpy(filled)
    with pytest.raises(pickle.UnpicklingError, match='fills an array twice'):
        filled.__setstate__((1, (2,), float64, False, np.float64([3, 4]).tobytes()))
    assert tensor.tolist() == [1, 2]


@pytest.mark.parametrize('state', [0, (), (3, '<'), plain_state(order=b'<'), {'dtype': 1}])
def test_a_type_takes_no_other_state(state):
    with pytest.raises(pickle.UnpicklingError, match='no plain number'):
        STAND_INS['numpy.dtype']('f8').__setstate__(state)


@pytest.mark.parametrize('code', CODES)
@pytest.mark.parametrize('order', '<>')
def test_numbers_of_every_type(code, order, tmp_path):
    values = np.array([[1, 0, 1], [0, 1, 1]], np.dtype(code).newbyteorder(order))
    content = {
        'array': values,
        'transposed': values.T,
        'empty': values[:0],
        'point': np.array(values[0, 0]),
        'large': np.ones(2000, values.dtype),
    }
    torch.save({**content, 'number': values[1, 2]}, tmp_path / 'a.pth')
    (tmp_path / 'a.pdparams').write_bytes(pickle.dumps(content, 4))
    loaded = torch.load(tmp_path / 'a.pth', weights_only=True)
    assert type(loaded['number']) is type(values[1, 2])
    assert loaded['number'] == 1
    for read in (loaded, load_pdparams(tmp_path / 'a.pdparams')):
        for name, expected in content.items():
            assert isinstance(read[name], np.ndarray)
            assert read[name].dtype.newbyteorder('=') == np.dtype(code)
            assert read[name].shape == expected.shape
            assert read[name].flags.f_contiguous == expected.flags.f_contiguous
            np.testing.assert_array_equal(read[name], expected)
            read[name][...] = 0  # as an array that NumPy unpickled can be


def test_what_was_loaded_is_saved_and_copied_as_numpys_own(tmp_path):
    content = {'array': np.arange(6.0).reshape(2, 3), 'dtype': np.dtype('>f4')}
    torch.save(content, tmp_path / 'a.pth')
    loaded = torch.load(tmp_path / 'a.pth', weights_only=True)
    assert np.dtype(loaded['dtype']) == np.dtype('>f4')
    again = io.BytesIO()
    torch.save(loaded, again)
    again.seek(0)
    alone = torch.load(again, weights_only=False)
    assert type(alone['array']) is type(copy.deepcopy(loaded['array'])) is np.ndarray
    np.testing.assert_array_equal(alone['array'], content['array'])
    assert alone['dtype'] == np.dtype('>f4')


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
    return torch.load(io.BytesIO(with_pickle(file.getvalue(), made + b'.')), weights_only=True)


HOSTILE_STATES = {
    'a method': buffer_state(mean=OrderedDict),
    'another attribute': buffer_state(__class__=OrderedDict),
    'no numbers': buffer_state(_log_history=[1.0, 2.0]),
    'numbers of two dimensions': buffer_state(_log_history=np.ones((2, 2))),
    'fewer counts': buffer_state(_count_history=np.ones(1)),
    'no length': buffer_state(max_length='a'),
    'less': {'max_length': 9},
    'no dictionary': (1, 2),
    'two dictionaries': ({}, {'mean': OrderedDict}),
}


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


@pytest.mark.parametrize('name', HOSTILE_STATES)
def test_refuses_a_history_buffer_of_another_state(name):
    before = dict(vars(HistoryBuffer)), dict(HistoryBuffer._statistics_methods)
    with pytest.raises(pickle.UnpicklingError, match='it holds a HistoryBuffer'):
        load_buffer(HOSTILE_STATES[name])
    assert (dict(vars(HistoryBuffer)), dict(HistoryBuffer._statistics_methods)) == before


def test_a_history_buffer_takes_one_state():
    with pytest.raises(pickle.UnpicklingError, match='Can only build'):
        load_buffer(buffer_state(), buffer_state())


def test_a_history_buffer_takes_no_arguments(tmp_path):
    torch.save(Calls(HistoryBuffer, [1.0], [1]), tmp_path / 'a.pth')
    with pytest.raises(pickle.UnpicklingError, match='calls HistoryBuffer'):
        torch.load(tmp_path / 'a.pth', weights_only=True)

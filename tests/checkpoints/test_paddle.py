import os
import pickle
import resource
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from mmseg_ctx.checkpoints.paddle import load_pdparams

ARRAYS = {
    'head.cls_head.weight': np.arange(24, dtype='float32').reshape(2, 3, 4, 1),
    'head.cls_head.bias': np.float16([0.5, -2]),
    'head.transposed': np.arange(6.0).reshape(2, 3).T,
    'head.steps': np.array(7),
    'head.empty': np.zeros((0, 3)),
}


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / 'model.pdparams'
        path.write_bytes(content)
        return path

    return write


def assert_equal(loaded):
    assert list(loaded) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert type(loaded[name]) is np.ndarray
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize('container', [dict, OrderedDict])
def test_reads_what_paddle_writes(protocol, container, write):
    names = {name: f'conv2d_{i}.w_0' for i, name in enumerate(ARRAYS)}
    content = container({**ARRAYS, 'StructuredToParameterName@@': names})
    assert_equal(load_pdparams(write(pickle.dumps(content, protocol))))


@pytest.mark.parametrize('protocol', [2, 3])
def test_reads_the_files_of_either_numpy(protocol, write):
    content = pickle.dumps(ARRAYS, protocol)
    one, two = b'cnumpy.core.multiarray\n', b'cnumpy._core.multiarray\n'
    assert (one in content) != (two in content)
    assert_equal(load_pdparams(write(content.replace(two, one))))
    assert_equal(load_pdparams(write(content.replace(two, one).replace(one, two))))


def test_reads_what_python_2_wrote(write):
    """An OrderedDict of a list of pairs, and texts in the place of bytes."""
    array = (
        b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02\x85'
        b'cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff'
        b'K\x00tb\x89U\x08\x00\x00\x80\xbf\x00\x00\x00@tb'
    )
    path = write(b'\x80\x02ccollections\nOrderedDict\n](](U\x01a' + array + b'ee\x85R.')
    arrays = load_pdparams(path)
    assert arrays['a'].dtype == np.float32
    assert arrays['a'].tolist() == [-1, 2]


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def harmful(path):
    return {
        f'{os.system.__module__}.system': Call(os.system, f'touch {path}'),
        'builtins.eval': Call(eval, f"open({str(path)!r}, 'w')"),
        'builtins.exec': Call(exec, f"open({str(path)!r}, 'w')"),
        'builtins.getattr': Call(getattr, np.ndarray, 'tofile'),
        'io.open': Call(open, str(path), 'w'),
        'numpy.load': Call(np.load, str(path), None, True),
        'numpy.fromfile': Call(np.fromfile, str(path)),
        'pathlib.PosixPath': path,
        'torch._utils._rebuild_tensor_v2': torch.zeros(1),
    }


@pytest.mark.parametrize('protocol', [2, 4])
@pytest.mark.parametrize('name', list(harmful(Path())))
def test_refuses_everything_else_by_name_and_does_not_run_it(name, protocol, write, tmp_path):
    proof = tmp_path / 'proof'
    for nested in (lambda call: call, lambda call: [ARRAYS['head.steps'], {'a': (call,)}]):
        content = dict(ARRAYS, extra=nested(harmful(proof)[name]))
        path = write(pickle.dumps(content, protocol, fix_imports=False))
        with pytest.raises(ValueError, match=rf'{path} .* asks for \S*{name}') as caught:
            load_pdparams(path)
        assert '\n' not in str(caught.value)
    assert not proof.exists()


@pytest.mark.parametrize(
    ('content', 'name'),
    [
        # As written by hand: names with dots, those of Python 2, and from the extension registry.
        (b"cposix\nsystem\n(S'touch proof'\ntR.", 'posix.system'),
        (b"c__builtin__\neval\n(S'1'\ntR.", '__builtin__.eval'),
        (b'\x80\x04\x8c\x05numpy\x8c\x0bos.system.a\x93.', 'numpy.os.system.a'),
        (b'\x80\x04\x8c\x15numpy.core.multiarray\x8c\x15_reconstruct.__self__\x93.', '__self__'),
        (b'cnumpy\nndarray.tofile\n.', 'numpy.ndarray.tofile'),
        (b"cnumpy\nndarray\n(S'tofile'\nS'a'\ntR.", ''),
    ],
)
def test_refuses_names_written_by_hand(content, name, write):
    path = write(content)
    with pytest.raises(ValueError, match=rf'{path} is not a dictionary .*{name}'):
        load_pdparams(path)


def test_encodes_latin1_only(write):
    content = pickle.dumps(ARRAYS, 2)
    assert b'latin1' in content
    with pytest.raises(ValueError, match="encode as 'rot_13', not latin1"):
        load_pdparams(
            write(content.replace(b'X\x06\x00\x00\x00latin1', b'X\x06\x00\x00\x00rot_13'))
        )


@pytest.mark.parametrize('name', [b'_codecs\nencode', b'numpy.core.numeric\n_frombuffer'])
def test_what_stands_in_for_a_function_cannot_be_changed(name, write):
    # BUILD sets the attributes of what is on the stack.
    content = b'c' + name + b"\n}S'__defaults__'\nNsb."
    with pytest.raises(ValueError, match='it sets attributes of a '):
        load_pdparams(write(content))


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (b'', 'Ran out of input'),
        (b'weights', 'is not a dictionary of Paddle weights: '),
        (pickle.dumps(ARRAYS)[:-40], 'is not a dictionary of Paddle weights: '),
        (pickle.dumps([1, 2]), 'but a list'),
        (pickle.dumps(dict(ARRAYS, epoch=3)), "'epoch' is no numeric array"),
        (pickle.dumps({**ARRAYS, 1: ARRAYS['head.steps']}), '1 is no numeric array'),
        (pickle.dumps(dict(names=np.array(['a', None], object))), "the type 'O8', which is not"),
        (pickle.dumps(dict(names=np.array(['a', 'b']))), "the type 'U1', which is not numeric"),
        (pickle.dumps({**ARRAYS, 'UnpackBigParamInfor@@': {}}), 'slices'),
    ],
)
def test_refuses_another_file_in_one_line(content, reason, write):
    path = write(content)
    with pytest.raises(ValueError, match=reason) as caught:
        load_pdparams(path)
    assert str(path) in str(caught.value)
    assert '\n' not in str(caught.value)


def test_refuses_a_checkpoint_of_pytorch(tmp_path):
    path = tmp_path / 'model.pth'
    torch.save({'a': torch.zeros(2)}, path)
    with pytest.raises(ValueError, match='is not a dictionary of Paddle weights'):
        load_pdparams(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='missing'):
        load_pdparams(tmp_path / 'missing.pdparams')


LARGE = b'X' + (10**6).to_bytes(4, 'little') + b'a' * 10**6
ENCODE = b'c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R'
PAIRS = b'](' + b''.join(b'K\x01K\x02\x86' for _ in range(10**5)) + b'e'


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        # Something large in the memo, and calls that each make another one of it.
        (LARGE + b'q\x00](' + 100 * ENCODE + b'e', 'uses its parts more often'),
        (PAIRS + b'q\x00](' + 100 * b'ccollections\nOrderedDict\nh\x00\x85R' + b'e', 'more often'),
        (b'](' + 1_000_001 * b'}' + b'e', 'uses its parts more often'),
        # Lengths and places without anything behind them.
        (b'Nr\xff\xff\xff\xff', 'whose key is 4294967295'),
        (b'\x8e\xff\xff\xff\xff\xff\xff\xff\x7f', 'expected'),
        (b'\x96\xff\xff\xff\xff\xff\x00\x00\x00', 'expected'),
        (b'\x8d\xff\xff\xff\xff\xff\x00\x00\x00', 'expected'),
        (b'}' + b')' + b'\x85' * 300_000 + b'K\x01s', 'whose key is a tuple'),
        (b'Np%d\n' % (2**61 - 1), 'whose key is 23058430'),
        (b'}\x8a\x08' + (2**61 - 1).to_bytes(8, 'little') + b'K\x01s', 'whose key is 23058430'),
    ],
)
def test_a_small_file_takes_little_memory(content, reason, write):
    path = write(b'\x80\x02' + content + b'.')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=reason):
        load_pdparams(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 2**10  # KiB

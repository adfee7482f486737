import os
import pickle
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from mmseg_ctx.checkpoints.paddle import load_pdparams
from tests.checkpoints.hostile.mutations import DEEP_KEY
from tests.checkpoints.hostile.seeds import ARRAYS, Calls, paddle_pickles


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / 'model.pdparams'
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize('content', paddle_pickles(), ids=[2, 3, 4, 'NumPy 1', 'NumPy 2'])
def test_reads_what_paddle_writes(content, write):
    loaded = load_pdparams(write(content))
    assert list(loaded) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert type(loaded[name]) is np.ndarray
        assert loaded[name].dtype == array.dtype
        assert loaded[name].flags.writeable
        np.testing.assert_array_equal(loaded[name], array)


def harmful(path):
    return {
        f'{os.system.__module__}.system': Calls(os.system, f'touch {path}'),
        'builtins.eval': Calls(eval, f"open({str(path)!r}, 'w')"),
        'builtins.getattr': Calls(getattr, np.ndarray, 'tofile'),
        'io.open': Calls(open, str(path), 'w'),
        'numpy.load': Calls(np.load, str(path), None, True),
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
    ('content', 'reason'),
    [
        # As written by hand: names with dots, and those of Python 2.
        (b'c__builtin__\neval\n)R.', '__builtin__.eval'),
        (b'\x80\x04\x8c\x05numpy\x8c\x0bos.system.a\x93.', 'numpy.os.system.a'),
        (b'cnumpy\nndarray.tofile\n.', 'numpy.ndarray.tofile'),
        (b'ccollections\nOrderedDict\n](X\x01\x00\x00\x00aK\x01\x86e\x85R.', 'takes 1 positional'),
        # BUILD sets the attributes of what is on the stack.
        (b'c_codecs\nencode\n}X\x0c\x00\x00\x00__defaults__Nsb.', 'it sets attributes of a '),
        (pickle.dumps(ARRAYS, 2).replace(b'X\x06\x00\x00\x00latin1', b'X\x06\x00\x00\x00rot_13'),
         "encode as 'rot_13', not latin1"),
        (b'', 'is not a dictionary of Paddle weights'),
        (pickle.dumps(ARRAYS)[:-40], 'is not a dictionary of Paddle weights'),
        (pickle.dumps(dict(ARRAYS, epoch=3)), "'epoch' is no numeric array"),
        (pickle.dumps({**ARRAYS, 1: ARRAYS['head.steps']}), 'keys are no names'),
        (pickle.dumps(dict(names=np.array(['a', None], object))), "the type 'O8', which is not"),
        # What Paddle adds where it cuts large arrays into slices.
        (pickle.dumps({**ARRAYS, 'UnpackBigParamInfor@@': {}}), "@@' is no numeric array"),
    ],
)  # fmt: skip
def test_refuses_another_file_in_one_line(content, reason, write):
    path = write(content)
    with pytest.raises(ValueError, match=reason) as caught:
        load_pdparams(path)
    assert str(path) in str(caught.value)
    assert '\n' not in str(caught.value)


LARGE = b'X' + (10**6).to_bytes(4, 'little') + b'a' * 10**6
ENCODE = b'c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R'
DOUBLED = b'K\x01\x85q\x00' + b''.join(b'h%ch%c\x86q%c' % (i, i, i + 1) for i in range(90))


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        # A part of the file that is used repeatedly: copies of a text, tuples within tuples.
        (LARGE + b'q\x00](' + 100 * ENCODE + b'e', 'more often than weights do'),
        (b'}' + DOUBLED + b'K\x01s', 'more often than weights do'),
        (b'](' + 1_000_001 * b'}' + b'e', 'more than 1,000,000 operations'),
        # Places and lengths without anything behind them.
        (b'Nr\xff\xff\xff\xff', 'but a NoneType'),
        (b'\x96\xff\xff\xff\xff\xff\x00\x00\x00', 'expected .* bytes'),
        (DEEP_KEY, 'keys are no names'),
    ],
)
def test_a_small_file_takes_little_memory(content, reason, write):
    path = write(b'\x80\x02' + content + b'.')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=reason):
        load_pdparams(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 2**10  # KiB

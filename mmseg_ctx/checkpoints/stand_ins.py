"""Stand-ins for the constructors that a pickle of arrays and MMEngine's history buffers names.

NumPy's own ``ndarray``, ``dtype``, ``scalar`` and ``_reconstruct`` trust a pickle: a file can make
an object array over bytes, which are then used as pointers, and it can fill an array twice, which
frees memory that a tensor may still use. The stand-ins accept only numeric types, and shapes that
match their buffer. With them, ``torch.load(weights_only=True)`` reads what MMEngine's runner saves.
"""

from contextlib import contextmanager
from pickle import UnpicklingError

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.utils import digit_version

# Codes of the accepted types: booleans, integers, floating-point numbers.
CODES = ('b1', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'f2', 'f4', 'f8')

# HistoryBuffer's statistics. A pickled buffer refers to each as getattr(HistoryBuffer, name).
STATISTICS = ('min', 'max', 'current', 'mean')


class PickledDtype:
    """Stands in for ``numpy.dtype``: one of ``CODES`` and its byte order, in ``dtype``."""

    __slots__ = ('dtype',)

    def __init__(self, code, align=False, copy=False):
        if type(code) is not str or code not in CODES:
            raise UnpicklingError(
                f'it holds an array of the type {shown(code)}, which is not numeric'
            )
        self.dtype = np.dtype(code)

    def __setstate__(self, state):
        """Set the byte order from NumPy's state of a type, whose other entries must be empty."""
        kinds = [int, str, *[type(None)] * 3, int, int, int]
        # A tensor, whose comparison may take any memory, is compared with nothing.
        plain = type(state) is tuple and [type(entry) for entry in state] == kinds
        if not plain or state not in [(3, order, *[None] * 3, -1, -1, 0) for order in '<>=|']:
            raise UnpicklingError('it holds a type of array that is no plain number')
        self.dtype = self.dtype.newbyteorder(state[1])

    def __reduce__(self):
        return self.dtype.__reduce__()


class PickledArray:
    """Stands in for ``numpy.ndarray``.

    PyTorch's unpickler makes an object and sets its state later, so a loaded checkpoint has objects
    of this class, with the array in ``array``. They are saved and copied as ``numpy.ndarray``.
    """

    __slots__ = ('array',)

    def __init__(self):
        self.array = np.empty(0)

    def __setstate__(self, state):
        """Set the array from NumPy's state of an array: version, shape, type, order, buffer."""
        if type(state) is not tuple or len(state) != 5:
            raise UnpicklingError('it holds an array whose state is not that of NumPy')
        self.array = _array(*state[1:])

    def __reduce__(self):
        return self.array.__reduce__()


def _array(shape, dtype, fortran, buffer):
    """Return an array of a buffer's numbers; NumPy compares the shape with their count."""
    if type(shape) is not tuple or type(dtype) is not PickledDtype or type(buffer) is not bytes:
        raise UnpicklingError('it holds an array whose state is not that of NumPy')
    array = np.frombuffer(buffer, dtype.dtype).reshape(shape, order='F' if fortran is True else 'C')
    return array.astype(array.dtype.newbyteorder('='))


def _reconstruct(array_type, shape, code):
    if array_type is not PickledArray:
        raise UnpicklingError('it asks for an array of another type than numpy.ndarray')
    return PickledArray()


def _scalar(dtype, buffer):
    return _array((), dtype, False, buffer)[()]


def _empty_bytes():
    """Stand in for ``bytes``, which protocol 2 calls for an empty buffer, without arguments."""
    return b''


class PickledHistoryBuffer(HistoryBuffer):
    """Stands in for ``HistoryBuffer``, and becomes one when it gets its state.

    ``HistoryBuffer`` itself accepts any state, which could overwrite its methods and the statistics
    that all buffers of the process share.
    """

    def __new__(cls):
        return super().__new__(cls)

    def __setstate__(self, state):
        """Set numbers, counts and the greatest length. The statistics stay the class's."""
        fields = {'max_length', '_log_history', '_count_history'}
        if type(state) is not dict or state.keys() - {'statistics_methods'} != fields:
            raise UnpicklingError('it holds a HistoryBuffer with attributes of its own')
        length, numbers, counts = map(state.get, ('max_length', '_log_history', '_count_history'))
        lists = type(length) is int and type(numbers) is type(counts) is PickledArray
        if not lists or not (numbers.array.shape == counts.array.shape == (counts.array.size,)):
            raise UnpicklingError('it holds a HistoryBuffer without lists of numbers and counts')
        self.__class__ = HistoryBuffer
        self.__init__(numbers.array, counts.array, max(length, len(numbers.array)))
        self.max_length = length


def _statistic(owner, name):
    """Stand in for ``getattr``, with which a pickled buffer refers to its statistics.

    It returns the name and not the method, since a pickle could call the method with any arguments.
    """
    ours = owner is HistoryBuffer or owner is PickledHistoryBuffer
    if not ours or type(name) is not str or name not in STATISTICS:
        raise UnpicklingError(
            f'a checkpoint may refer to {", ".join(STATISTICS)} of HistoryBuffer by getattr, '
            f'and to nothing else; got {shown(name)} of {shown(owner)}'
        )
    return name


def shown(value):
    """Return a short text for a value from a file, without the ``repr`` of nested values."""
    text = repr(value) if type(value) in (str, int) else f'a {type(value).__name__}'
    return text if len(text) <= 60 else f'{text[:57]}...'


# The stand-in by the full name of the original. NumPy 2 renamed its package; Python 2 and 3 name
# the module of ``bytes`` differently.
ARRAYS = {
    'numpy.ndarray': PickledArray,
    'numpy.dtype': PickledDtype,
    'numpy.core.multiarray._reconstruct': _reconstruct,
    'numpy._core.multiarray._reconstruct': _reconstruct,
    'numpy.core.multiarray.scalar': _scalar,
    'numpy._core.multiarray.scalar': _scalar,
    '__builtin__.bytes': _empty_bytes,
    'builtins.bytes': _empty_bytes,
}
STAND_INS = {
    **ARRAYS,
    'builtins.getattr': _statistic,
    'mmengine.logging.history_buffer.HistoryBuffer': PickledHistoryBuffer,
}


# PyTorch before 2.6 knows no names for safe objects.
SAFE_GLOBALS = [(stand_in, name) for name, stand_in in STAND_INS.items()]
if digit_version(torch.__version__) < digit_version('2.6.0'):
    SAFE_GLOBALS = []


@contextmanager
def only_stand_ins():
    """Let ``torch.load(weights_only=True)`` make the stand-ins' objects, and no others of ours.

    What the process has registered as safe, such as NumPy's own constructors, is not safe within
    the context.
    """
    registered = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(SAFE_GLOBALS)
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(registered)


def help_upstream_mmengine():
    """Register the stand-ins for good where MMEngine could not load its own checkpoints otherwise.

    From PyTorch 2.6 on, ``torch.load`` refuses the history buffers that MMEngine saves. The
    maintained fork sees to that itself, so beside it this function does nothing.
    """
    if not hasattr(mmengine_checkpoint, 'get_torch_safe_globals'):
        torch.serialization.add_safe_globals(SAFE_GLOBALS)

"""Read weights of PaddlePaddle, without PaddlePaddle and without running code from the file.

A ``.pdparams`` file is a pickled dictionary of NumPy arrays. Python's ``Unpickler``, which is
written in C, allocates what a file announces and hashes whatever a file uses as a key, so a short
file can use up the memory or end the process. This module takes the operations that weights need
from ``_Unpickler``, which is written in Python, and replaces those that trust the file.
"""

import io
import pickle
from pathlib import Path

from mmseg_ctx.checkpoints.stand_ins import ARRAYS, PickledArray, PickledDtype, shown
from mmseg_ctx.utils.errors import value_errors

# Paddle adds a table of its own names of the parameters to a state dict.
NAME_TABLE = 'StructuredToParameterName@@'

# In a file with this key, arrays of 2**30 bytes and more are cut into slices.
SLICE_TABLE = 'UnpackBigParamInfor@@'

# A large network's file has some ten thousand operations.
MAX_OPERATIONS = 1_000_000

# Bytes of a text that a file may use repeatedly; longer ones could grow into any amount of memory.
MAX_REUSED = 256


def load_pdparams(path):
    """Return the arrays of a ``.pdparams`` file.

    Args:
        path (str | Path): The file, which ``paddle.save`` wrote from a layer's state dict.

    Returns:
        dict[str, np.ndarray]: Numeric arrays by the names of the parameters.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is something else, or names anything but NumPy arrays and plain
            containers.

    Example:
        >>> arrays = load_pdparams('model.pdparams')
        >>> arrays['head.cls_head.weight'].shape
        (60, 512, 1, 1)
    """
    content = io.BytesIO(Path(path).read_bytes())
    with value_errors(f'{path} is not a dictionary of Paddle weights'):
        weights = ArrayUnpickler(content).load()
    if type(weights) is not dict:
        raise ValueError(f'{path} is not a dictionary of Paddle weights, but {shown(weights)}')
    if SLICE_TABLE in weights:
        raise ValueError(f'{path} holds arrays cut into slices ({SLICE_TABLE}), which are not read')
    weights.pop(NAME_TABLE, None)
    arrays = {name: getattr(value, 'array', None) for name, value in weights.items()}
    for name, array in arrays.items():
        if array is None:
            raise ValueError(
                f'{path} is not a dictionary of Paddle weights: {shown(name)} is no numeric array'
            )
    return arrays


def _encode(text, encoding):
    """Stand in for ``_codecs.encode``, by which protocol 2 writes bytes."""
    if type(text) is not str or encoding != 'latin1':
        raise pickle.UnpicklingError(f'it holds text to encode as {shown(encoding)}, not latin1')
    return text.encode('latin1')


def _frombuffer(buffer, dtype, shape, order):
    """Stand in for ``numpy.core.numeric._frombuffer``, by which protocol 5 writes arrays."""
    array = PickledArray()
    array.__setstate__((1, shape, dtype, order == 'F', buffer))
    return array


def _empty_dict():
    """Stand in for ``collections.OrderedDict``."""
    return {}


# The stand-in by the full name of what a file may ask for.
ALLOWED = {
    **ARRAYS,
    'collections.OrderedDict': _empty_dict,
    '_codecs.encode': _encode,
    'numpy.core.numeric._frombuffer': _frombuffer,
    'numpy._core.numeric._frombuffer': _frombuffer,
}


class Operations(dict):
    """Methods of an unpickler by the code of their operation, a limited number of times."""

    left = MAX_OPERATIONS

    def __getitem__(self, code):
        self.left -= 1
        if self.left < 0:
            raise pickle.UnpicklingError(f'it has more than {MAX_OPERATIONS:,} operations')
        if code not in self:
            raise pickle.UnpicklingError(f'it has the operation {chr(code)!r}, which no array has')
        return super().__getitem__(code)


class ArrayUnpickler(pickle._Unpickler):
    """Reads a pickle of NumPy arrays by name, of protocol 2 to 5, and refuses anything else.

    Args:
        file (BinaryIO): The pickle.
    """

    def __init__(self, file):
        super().__init__(file)
        codes = [getattr(pickle, name)[0] for name in KNOWN.split()]
        known = {code: pickle._Unpickler.dispatch[code] for code in codes}
        self.dispatch = Operations(known | OWN)

    def find_class(self, module, name):
        """Return the stand-in for what the file names.

        Raises:
            UnpicklingError: There is none.
        """
        if f'{module}.{name}' not in ALLOWED:
            raise pickle.UnpicklingError(
                f'it asks for {module}.{name}, and only NumPy arrays and plain containers are read'
            )
        return ALLOWED[f'{module}.{name}']

    def _set(self, names, values):
        # Hashing a deeply nested tuple would end the process.
        if type(self.stack[-1]) is not dict or any(type(name) is not str for name in names):
            raise pickle.UnpicklingError('it holds a dictionary whose keys are no names')
        self.stack[-1].update(zip(names, values, strict=True))

    def _set_item(self):
        name, value = self.stack[-2:]
        del self.stack[-2:]
        self._set([name], [value])

    def _set_items(self):
        items = self.pop_mark()
        self._set(items[::2], items[1::2])

    def _build(self):
        # The attributes of a function have its code.
        if type(self.stack[-2]) not in (PickledArray, PickledDtype):
            raise pickle.UnpicklingError(f'it sets attributes of {shown(self.stack[-2])}')
        self.load_build()

    def _push_bytearray(self):
        # Python's own method allocates the announced length before it reads.
        self.append(self.read(int.from_bytes(self.read(8), 'little')))

    def _get(self, place):
        # Containers in containers, and repeated copies of a long text, could take any memory.
        value = self.memo[place]
        size = len(value) if type(value) in (str, bytes) else 0
        if type(value) in (tuple, list, dict) or size > MAX_REUSED:
            raise pickle.UnpicklingError('it uses its parts more often than weights do')
        self.append(value)

    def _get_near(self):
        self._get(self.read(1)[0])

    def _get_far(self):
        self._get(int.from_bytes(self.read(4), 'little'))


# Operations that Python's own unpickler does, and those in which it trusts the file too much.
KNOWN = (
    'PROTO FRAME STOP MARK GLOBAL STACK_GLOBAL MEMOIZE BINPUT LONG_BINPUT REDUCE NONE NEWTRUE '
    'NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 '
    'TUPLE2 TUPLE3 APPEND APPENDS SHORT_BINUNICODE BINUNICODE SHORT_BINBYTES BINBYTES BINBYTES8'
)
OWN = {
    pickle.SETITEM[0]: ArrayUnpickler._set_item,
    pickle.SETITEMS[0]: ArrayUnpickler._set_items,
    pickle.BUILD[0]: ArrayUnpickler._build,
    pickle.BYTEARRAY8[0]: ArrayUnpickler._push_bytearray,
    pickle.BINGET[0]: ArrayUnpickler._get_near,
    pickle.LONG_BINGET[0]: ArrayUnpickler._get_far,
}

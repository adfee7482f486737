"""Read weights of PaddlePaddle, without PaddlePaddle and without running code from the file.

A ``.pdparams`` file is a pickled dictionary of NumPy arrays. Python's ``Unpickler``, which is
written in C, allocates what a file announces and hashes whatever a file uses as a key, so a short
file can use up the memory or end the process. This module limits ``_Unpickler``, which is written
in Python, to what weights need.
"""

import pickle
import pickletools
from io import BytesIO
from pathlib import Path

from mmseg_ctx.checkpoints.stand_ins import ARRAYS, PickledArray, PickledDtype, shown
from mmseg_ctx.utils.errors import value_errors

# Paddle adds a table of its own names of the parameters to a state dict.
NAME_TABLE = 'StructuredToParameterName@@'

# A large network's file has some ten thousand operations.
MAX_OPERATIONS = 1_000_000

# Bytes of a text that a file may use repeatedly; longer ones could grow into any amount of memory.
MAX_REUSED = 256

# Those of protocols 2 to 4, which Paddle writes, that arrays by name need.
OPERATIONS = (
    'PROTO FRAME STOP MARK GLOBAL STACK_GLOBAL MEMOIZE BINPUT LONG_BINPUT BINGET LONG_BINGET '
    'REDUCE BUILD NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT EMPTY_DICT SETITEM '
    'SETITEMS EMPTY_LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 SHORT_BINUNICODE '
    'BINUNICODE SHORT_BINBYTES BINBYTES BINBYTES8'
)


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
    content = Path(path).read_bytes()
    with value_errors(f'{path} is not a dictionary of Paddle weights'):
        known = set(OPERATIONS.split())
        for number, (operation, _, _) in enumerate(pickletools.genops(content)):
            if operation.name not in known or number >= MAX_OPERATIONS:
                raise pickle.UnpicklingError(
                    f'it has the operation {operation.name}, which no array has, or more than '
                    f'{MAX_OPERATIONS:,} operations'
                )
        weights = ArrayUnpickler(content).load()
    if not isinstance(weights, dict):
        raise ValueError(f'{path} is not a dictionary of Paddle weights, but {shown(weights)}')
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


class _Names(dict):
    """A dictionary with names as keys: hashing a deeply nested tuple would end the process."""

    def __init__(self):
        super().__init__()

    def __setitem__(self, name, value):
        if type(name) is not str:
            raise pickle.UnpicklingError('it holds a dictionary whose keys are no names')
        super().__setitem__(name, value)


class _Memo(dict):
    """Parts of a file that it may use again: containers and long texts could take any memory."""

    def __getitem__(self, place):
        value = super().__getitem__(place)
        size = len(value) if type(value) in (str, bytes) else 0
        if isinstance(value, (tuple, list, dict)) or size > MAX_REUSED:
            raise pickle.UnpicklingError('it uses its parts more often than weights do')
        return value


# The stand-in by the full name of what a file may ask for.
ALLOWED = {**ARRAYS, 'collections.OrderedDict': _Names, '_codecs.encode': _encode}


class ArrayUnpickler(pickle._Unpickler):
    """Reads a pickle of NumPy arrays by name.

    Args:
        content (bytes): The pickle, of ``OPERATIONS`` alone.
    """

    def __init__(self, content):
        super().__init__(BytesIO(content))
        self.memo = _Memo()

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

    def _begin_dictionary(self):
        self.append(_Names())

    def _set_state(self):
        # The attributes of a function have its code.
        if type(self.stack[-2]) not in (PickledArray, PickledDtype):
            raise pickle.UnpicklingError(f'it sets attributes of {shown(self.stack[-2])}')
        self.load_build()


ArrayUnpickler.dispatch = pickle._Unpickler.dispatch | {
    pickle.EMPTY_DICT[0]: ArrayUnpickler._begin_dictionary,
    pickle.BUILD[0]: ArrayUnpickler._set_state,
}

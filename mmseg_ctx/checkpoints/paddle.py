"""Read weights of PaddlePaddle, without PaddlePaddle and without running code from the file.

A ``.pdparams`` file is a pickled dictionary of NumPy arrays. Python's own unpickler calls any
function that a file names, and a short file can make it use up the memory or end the process. So
this module has an unpickler of its own, with only the operations and names that such a dictionary
needs.
"""

import pickle
import pickletools
from collections import OrderedDict
from pathlib import Path

import numpy as np

from mmseg_ctx.checkpoints.stand_ins import (
    STAND_INS,
    FromBuffer,
    Latin1,
    PickledArray,
    PickledDtype,
    by_numpys_names,
    shown,
)
from mmseg_ctx.utils.errors import value_errors

# Paddle adds a table of its own names of the parameters to a state dict.
NAME_TABLE = 'StructuredToParameterName@@'

# In a file with this key, arrays of 2**30 bytes and more are cut into slices.
SLICE_TABLE = 'UnpackBigParamInfor@@'

# Operations that push a number, text or bytes, which follow them in the file.
LITERALS = {
    *('INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4', 'FLOAT', 'BINFLOAT'),
    *('STRING', 'BINSTRING', 'SHORT_BINSTRING'),
    *('UNICODE', 'SHORT_BINUNICODE', 'BINUNICODE', 'BINUNICODE8'),
    *('SHORT_BINBYTES', 'BINBYTES', 'BINBYTES8', 'BYTEARRAY8'),
}
CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False, 'EMPTY_TUPLE': ()}

# A large network's file has some ten thousand operations.
MAX_OPERATIONS = 1_000_000

# A file of weights uses a byte at most twice: in text that becomes bytes, and in their array.
MAX_USES = 3


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
        weights = ArrayUnpickler(content).load()
    if type(weights) not in (dict, OrderedDict):
        raise ValueError(f'{path} is not a dictionary of Paddle weights, but {shown(weights)}')
    if SLICE_TABLE in weights:
        raise ValueError(f'{path} holds arrays cut into slices ({SLICE_TABLE}), which are not read')
    weights.pop(NAME_TABLE, None)
    for name, value in weights.items():
        if type(name) is not str or type(value) is not PickledArray:
            raise ValueError(
                f'{path} is not a dictionary of Paddle weights: {shown(name)} is no numeric array'
            )
    return {name: np.asarray(value) for name, value in weights.items()}


class ArrayUnpickler:
    """Reads a pickle of NumPy arrays and plain containers, and refuses anything else.

    Args:
        content (bytes): The pickle, of any protocol.
    """

    def __init__(self, content):
        self.content = content
        self.stack = []
        self.outer_stacks = []  # one for each open mark
        self.memo = {}
        self.operations = self.bytes = 0

    def load(self):
        """Return the object in the pickle.

        Raises:
            Exception: The pickle is damaged, or asks for something that is not allowed. The
                exception can be of any class.
        """
        if not self.content:
            raise EOFError('Ran out of input')
        for opcode, argument, _ in pickletools.genops(self.content):
            self._count(operations=1)
            if opcode.name in LITERALS:
                self.stack.append(argument)
            elif opcode.name in CONSTANTS:
                self.stack.append(CONSTANTS[opcode.name])
            else:
                self._apply(opcode.name, argument)
        return self.stack.pop()

    def _apply(self, operation, argument):
        match operation:
            case 'PROTO' | 'FRAME' | 'STOP':
                pass
            case 'MARK':
                self.outer_stacks.append(self.stack)
                self.stack = []
            case 'EMPTY_DICT':
                self.stack.append({})
            case 'EMPTY_LIST':
                self.stack.append([])
            case 'DICT':
                items = self._since_mark()
                self.stack.append({})
                self._set(items)
            case 'LIST':
                items = self._since_mark()
                self.stack.append(items)
            case 'TUPLE':
                items = self._since_mark()
                self.stack.append(tuple(items))
            case 'TUPLE1' | 'TUPLE2' | 'TUPLE3':
                items = self._last(int(operation[-1]))
                self.stack.append(tuple(items))
            case 'SETITEM':
                self._set(self._last(2))
            case 'SETITEMS':
                self._set(self._since_mark())
            case 'APPEND':
                self._extend(self._last(1))
            case 'APPENDS':
                self._extend(self._since_mark())
            case 'MEMOIZE':
                self.memo[len(self.memo)] = self.stack[-1]
            case 'PUT' | 'BINPUT' | 'LONG_BINPUT':
                self.memo[_checked_key(argument)] = self.stack[-1]
            case 'GET' | 'BINGET' | 'LONG_BINGET':
                self.stack.append(self.memo[argument])
            case 'GLOBAL':
                self.stack.append(_stand_in(argument.replace(' ', '.', 1)))
            case 'STACK_GLOBAL':
                self.stack.append(_stand_in('.'.join(self._last(2))))
            case 'REDUCE':
                function, arguments = self._last(2)
                self._count(sum(len(each) for each in arguments if type(each) is list))
                self.stack.append(function(*arguments))
                self._count_made(self.stack[-1])
            case 'BUILD':
                (state,) = self._last(1)
                self._build(self.stack[-1], state)
            case _:
                raise pickle.UnpicklingError(
                    f'it has the operation {operation}, which no array has'
                )

    def _last(self, count):
        if len(self.stack) < count:
            raise pickle.UnpicklingError('it takes more from the stack than was put there')
        last = self.stack[-count:]
        del self.stack[-count:]
        return last

    def _since_mark(self):
        items = self.stack
        self.stack = self.outer_stacks.pop()
        return items

    def _set(self, items):
        target = self.stack[-1]
        if type(target) not in (dict, OrderedDict):
            raise pickle.UnpicklingError(f'it sets items of {shown(target)}')
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_checked_key(key)] = value

    def _extend(self, items):
        target = self.stack[-1]
        if type(target) is not list:
            raise pickle.UnpicklingError(f'it appends to {shown(target)}')
        target.extend(items)

    def _build(self, instance, state):
        if type(instance) not in (PickledArray, PickledDtype):
            raise pickle.UnpicklingError(f'it sets attributes of {shown(instance)}')
        instance.__setstate__(state)
        self._count_made(instance)

    def _count_made(self, made):
        """Count the bytes of a new object, since a pickle can use a part of itself repeatedly."""
        if type(made) in (bytes, PickledArray):
            self._count(size=memoryview(made).nbytes)

    def _count(self, operations=0, size=0):
        self.operations += operations
        self.bytes += size
        if self.operations > MAX_OPERATIONS or self.bytes > MAX_USES * len(self.content):
            raise pickle.UnpicklingError('it uses its parts more often than weights do')


def _stand_in(name):
    if name not in ALLOWED:
        raise pickle.UnpicklingError(
            f'it asks for {name}, and only NumPy arrays and plain containers are read'
        )
    return ALLOWED[name]


def _checked_key(key):
    """Return a key of a dictionary or of the memo if it is a string or a small integer.

    Hashing a deeply nested tuple would end the process. Large integers can share a hash, which
    makes a dictionary slow.
    """
    if type(key) is not str and not (type(key) is int and abs(key) < 2**31):
        raise pickle.UnpicklingError(f'it holds a dictionary whose key is {shown(key)}')
    return key


class _OrderedDict:
    """Stands in for ``collections.OrderedDict``, which Python 2 calls with a list of pairs."""

    __slots__ = ()

    def __call__(self, *arguments):
        (pairs,) = arguments or ([],)
        if type(pairs) is not list:
            raise pickle.UnpicklingError(f'it makes a dictionary of {shown(pairs)}')
        return OrderedDict((_checked_key(key), value) for key, value in pairs)


# The stand-in by the full name of what a file may ask for.
ALLOWED = {
    **STAND_INS,
    'collections.OrderedDict': _OrderedDict(),
    '_codecs.encode': Latin1(),
    **by_numpys_names('numeric', '_frombuffer', FromBuffer()),
}

"""Replacements for NumPy's constructors while a pickle of arrays is read.

NumPy's own ``ndarray``, ``dtype``, ``scalar`` and ``_reconstruct`` trust a pickle: a file can make
an object array over bytes, which are then used as pointers, and it can fill an array twice, which
frees memory that a tensor may still use. The stand-ins accept only numeric types and shapes that
match their buffer. They have no attributes that a pickle could set.
"""

import math
import sys
from pickle import UnpicklingError

import numpy as np

# Codes of the accepted types: booleans, integers, floating-point numbers.
CODES = ('b1', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'f2', 'f4', 'f8')
BYTE_ORDERS = ('<', '>', '=', '|')

# NumPy 1's limit.
MAX_DIMENSIONS = 32

# The base of an array that is not filled yet. Such an array owns no memory that could be freed.
UNFILLED = np.empty(0, 'i1')


class PickledDtype:
    """Stands in for ``numpy.dtype``: a numeric type and its byte order.

    Args:
        code (str): One of ``CODES``.
        align (bool): Ignored, since only structures have an alignment.
        copy (bool): Ignored.

    Attributes:
        dtype (np.dtype): The type.

    Raises:
        UnpicklingError: The code is not in ``CODES``.
    """

    __slots__ = ('dtype',)

    def __init__(self, code, align=False, copy=False):
        if type(code) is not str or code not in CODES:
            raise UnpicklingError(
                f'it holds an array of the type {shown(code)}, which is not numeric'
            )
        self.dtype = np.dtype(code)

    def __setstate__(self, state):
        """Set the byte order from NumPy's state of a type, whose other entries must be empty.

        Raises:
            UnpicklingError: The state has fields, a shape, a size or another entry.
        """
        if type(state) is not tuple or len(state) != 8 or type(state[1]) is not str:
            raise UnpicklingError('it holds a type of array that is no plain number')
        version, order, *others = state
        plain = [type(value) for value in others] == [type(None)] * 3 + [int] * 3
        if not plain or others[3:] != [-1, -1, 0] or type(version) is not int or version != 3:
            raise UnpicklingError('it holds a type of array that is no plain number')
        if order not in BYTE_ORDERS:
            raise UnpicklingError(f'it holds an array of the byte order {shown(order)}')
        self.dtype = self.dtype.newbyteorder(order)

    def __reduce__(self):
        return self.dtype.__reduce__()


class PickledArray(np.ndarray):
    """Stands in for ``numpy.ndarray``: an array that a pickle can fill once.

    PyTorch's unpickler makes an object and sets its state later, so a loaded checkpoint has arrays
    of this class. They are saved and copied as ``numpy.ndarray``.
    """

    def __new__(cls, *args, **kwargs):
        raise UnpicklingError('it calls numpy.ndarray, which no pickled array does')

    def __setstate__(self, state):
        """Fill the array from NumPy's state of an array: version, shape, type, order, buffer.

        Raises:
            UnpicklingError: The type is not numeric, the shape does not match the buffer, or the
                array is filled already.
        """
        if self.base is not UNFILLED:
            raise UnpicklingError('it fills an array twice')
        if type(state) is not tuple or len(state) != 5:
            raise UnpicklingError('it holds an array whose state is not that of NumPy')
        version, shape, dtype, fortran, buffer = state
        if type(version) is not int or version != 1 or type(fortran) not in (bool, int):
            raise UnpicklingError('it holds an array whose state is not that of NumPy')
        dtype = _numpy_dtype(dtype)
        buffer = _bytes(buffer)
        _check_shape(shape, dtype.itemsize, len(buffer))
        super().__setstate__((1, shape, dtype, bool(fortran), buffer))

    def __reduce_ex__(self, protocol):
        return np.asarray(self).__reduce_ex__(protocol)

    def __deepcopy__(self, memo):
        return np.array(self)


def _numpy_dtype(stand_in):
    if type(stand_in) is not PickledDtype:
        raise UnpicklingError('it holds an array without a numeric type')
    return stand_in.dtype


def _bytes(buffer):
    """Return an array's buffer as bytes; Python 2 wrote it as text."""
    if type(buffer) is str:
        return buffer.encode('latin1')
    if type(buffer) is not bytes:
        raise UnpicklingError('it holds an array whose buffer is not bytes')
    return buffer


def _check_shape(shape, itemsize, size):
    """Raise an UnpicklingError unless an array of this shape has ``size`` bytes."""
    if type(shape) is not tuple or len(shape) > MAX_DIMENSIONS:
        raise UnpicklingError(f'it holds an array of the shape {shown(shape)}')
    if any(type(length) is not int or not 0 <= length <= sys.maxsize for length in shape):
        raise UnpicklingError(f'it holds an array of the shape {shown(shape)}')
    # NumPy computes the strides also of an empty array.
    strides_fit = math.prod(length for length in shape if length) * itemsize <= sys.maxsize
    if math.prod(shape) * itemsize != size or not strides_fit:
        raise UnpicklingError(
            f'it holds an array of the shape {shape} and {itemsize} bytes an element in a buffer '
            f'of {size} bytes'
        )


def shown(value):
    """Return a short text for a value from a file, without the ``repr`` of nested values."""
    text = repr(value) if type(value) in (str, int) else f'a {type(value).__name__}'
    return text if len(text) <= 60 else f'{text[:57]}...'


class _Reconstruct:
    """Stands in for ``numpy.core.multiarray._reconstruct``, which makes an unfilled array."""

    __slots__ = ()

    def __call__(self, array_type, shape, code):
        if array_type is not PickledArray:
            raise UnpicklingError('it asks for an array of another type than numpy.ndarray')
        return UNFILLED.view(PickledArray)


class _Scalar:
    """Stands in for ``numpy.core.multiarray.scalar``, which makes a number."""

    __slots__ = ()

    def __call__(self, dtype, buffer):
        dtype, buffer = _numpy_dtype(dtype), _bytes(buffer)
        _check_shape((), dtype.itemsize, len(buffer))
        return np.frombuffer(buffer, dtype)[0]


class FromBuffer:
    """Stands in for ``numpy.core.numeric._frombuffer``, which protocol 5 uses for arrays."""

    __slots__ = ()

    def __call__(self, buffer, dtype, shape, order):
        if type(order) is not str or order not in ('C', 'F'):
            raise UnpicklingError(f'it holds an array of the order {shown(order)}')
        array = UNFILLED.view(PickledArray)
        buffer = bytes(buffer) if type(buffer) is bytearray else buffer
        array.__setstate__((1, shape, dtype, order == 'F', buffer))
        return array


class Latin1:
    """Stands in for ``_codecs.encode``, which protocol 2 uses for bytes."""

    __slots__ = ()

    def __call__(self, text, encoding):
        if type(encoding) is not str or encoding != 'latin1':
            raise UnpicklingError(f'it holds text to encode as {shown(encoding)}, not latin1')
        if type(text) is not str:
            raise UnpicklingError('it encodes something that is not text')
        return text.encode('latin1')


class _NoBytes:
    """Stands in for ``bytes``, which protocol 2 calls for an empty buffer, without arguments."""

    __slots__ = ()

    def __call__(self, *arguments):
        if arguments:
            raise UnpicklingError('it calls bytes with an argument, which no pickled array does')
        return b''


def by_numpys_names(module, name, stand_in):
    """Return a stand-in by both full names of the original; NumPy 2 renamed its package."""
    return {f'{package}.{module}.{name}': stand_in for package in ('numpy.core', 'numpy._core')}


# The stand-in by the full name of the original.
STAND_INS = {
    'numpy.ndarray': PickledArray,
    'numpy.dtype': PickledDtype,
    **by_numpys_names('multiarray', '_reconstruct', _Reconstruct()),
    **by_numpys_names('multiarray', 'scalar', _Scalar()),
    # Python 2 and Python 3 name the module differently.
    '__builtin__.bytes': _NoBytes(),
    'builtins.bytes': _NoBytes(),
}

"""Read the weights that PaddlePaddle wrote, without PaddlePaddle and without running any code.

A ``.pdparams`` file is a pickled dictionary of NumPy arrays. Unpickling may call whatever the file
names, so everything but the few names that such a dictionary needs is refused.
"""

import pickle
from collections import OrderedDict

import numpy as np

# Paddle adds a table of its own names for the parameters; its presence marks a state dict.
NAME_TABLE = 'StructuredToParameterName@@'

# Marks a file whose arrays of 2**30 bytes and more were cut into slices.
SLICE_TABLE = 'UnpackBigParamInfor@@'


class _Latin1:
    """Stands in for ``_codecs.encode``, which protocol 2 writes bytes with.

    Like :class:`_FromBuffer` it has no attributes, so that no pickle can change it.
    """

    __slots__ = ()

    def __call__(self, text, encoding):
        if encoding != 'latin1':
            raise pickle.UnpicklingError(f'it holds text to encode as {encoding!r}, not latin1')
        return text.encode('latin1')


class _FromBuffer:
    """Stands in for ``numpy.core.numeric._frombuffer``, which protocol 5 writes arrays with."""

    __slots__ = ()

    def __call__(self, buffer, dtype, shape, order):
        return np.frombuffer(buffer, dtype).reshape(shape, order=order).copy()


def _allowed_names():
    multiarray = np._core.multiarray if hasattr(np, '_core') else np.core.multiarray
    allowed = {
        ('collections', 'OrderedDict'): OrderedDict,
        ('numpy', 'ndarray'): np.ndarray,
        ('numpy', 'dtype'): np.dtype,
        ('_codecs', 'encode'): _Latin1(),
        # Protocol 2 writes no bytes, those of an empty array, as a call.
        ('__builtin__', 'bytes'): bytes,
        ('builtins', 'bytes'): bytes,
    }
    # NumPy renamed the package in 2.0; a file may come from either side.
    for package in ('numpy.core', 'numpy._core'):
        allowed[f'{package}.multiarray', '_reconstruct'] = multiarray._reconstruct
        allowed[f'{package}.numeric', '_frombuffer'] = _FromBuffer()
    return allowed


ALLOWED = _allowed_names()


class ArrayUnpickler(pickle.Unpickler):
    """Unpickles NumPy arrays and plain containers, and refuses everything else by name."""

    def find_class(self, module, name):
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f'it asks for {module}.{name}, and only NumPy arrays and plain containers are read'
            ) from None


def load_pdparams(path):
    """Return the arrays of a ``.pdparams`` file.

    Args:
        path (str | Path): The file, written by ``paddle.save`` from a layer's state dict.

    Returns:
        dict[str, np.ndarray]: Numeric arrays by the names of the parameters.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is something else, or names anything that is neither a NumPy array nor a
            plain container.

    Example:
        >>> arrays = load_pdparams('model.pdparams')
        >>> arrays['head.cls_head.weight'].shape
        (60, 512, 1, 1)
    """
    with open(path, 'rb') as file:
        try:
            content = ArrayUnpickler(file, encoding='latin1').load()
        except OSError:
            raise
        except Exception as error:  # A damaged pickle may raise anything.
            raise ValueError(f'{path} is not a dictionary of Paddle weights: {error}') from error
    if not isinstance(content, dict):
        raise ValueError(
            f'{path} is not a dictionary of Paddle weights, but a {type(content).__name__}'
        )
    if SLICE_TABLE in content:
        raise ValueError(f'{path} holds arrays cut into slices ({SLICE_TABLE}), which are not read')
    arrays = {name: value for name, value in content.items() if name != NAME_TABLE}
    for name, value in arrays.items():
        if not isinstance(name, str) or not _is_numeric(value):
            raise ValueError(
                f'{path} is not a dictionary of Paddle weights: {name!r} is no numeric array'
            )
    return arrays


def _is_numeric(value):
    return isinstance(value, np.ndarray) and value.dtype.kind in 'biuf'

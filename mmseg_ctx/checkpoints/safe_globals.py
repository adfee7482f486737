"""Make the checkpoints that MMEngine writes load with ``weights_only=True``.

From PyTorch 2.6 on, ``torch.load`` refuses whatever is not named as safe. A checkpoint of
MMEngine's holds a message hub: history buffers, and NumPy's arrays and numbers.
"""

from pickle import UnpicklingError

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.utils import digit_version

# HistoryBuffer's own statistics: a pickled buffer refers to each as getattr(HistoryBuffer, name).
STATISTICS = ('min', 'max', 'current', 'mean')

# Numbers as they occur in logs: what update_scalar and update_info were given.
NUMBERS = ('bool', 'int32', 'int64', 'uint8', 'float32', 'float64')


def history_buffer_statistic(owner, name):
    """Return a statistics method of ``HistoryBuffer``; stands in for ``getattr`` in unpickling.

    Args:
        owner (type): ``HistoryBuffer`` itself.
        name (str): ``'min'``, ``'max'``, ``'current'`` or ``'mean'``.

    Raises:
        UnpicklingError: Anything else is asked for.
    """
    if owner is not HistoryBuffer or name not in STATISTICS:
        raise UnpicklingError(
            f'a checkpoint may refer to {", ".join(STATISTICS)} of HistoryBuffer by getattr, '
            f'and to nothing else; got {name!r} of {owner!r}'
        )
    return getattr(HistoryBuffer, name)


def register_safe_globals():
    """Name what MMEngine's checkpoints hold as safe; does nothing before PyTorch 2.6.

    Each is registered under its full name, as a pair. MMEngine's maintained fork takes the bare
    objects off the list again after each of its own loads, which leaves the pairs alone.
    """
    if digit_version(torch.__version__) < digit_version('2.6.0'):
        return
    multiarray = np._core.multiarray if hasattr(np, '_core') else np.core.multiarray
    dtypes = {type(np.dtype(number)) for number in NUMBERS}
    pairs = [
        (history_buffer_statistic, 'builtins.getattr'),
        (HistoryBuffer, 'mmengine.logging.history_buffer.HistoryBuffer'),
        (np.ndarray, 'numpy.ndarray'),
        (np.dtype, 'numpy.dtype'),
        *((dtype, f'{dtype.__module__}.{dtype.__qualname__}') for dtype in dtypes),
    ]
    # NumPy renamed the module in 2.0; a checkpoint may come from either side.
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        pairs.append((multiarray._reconstruct, f'{module}._reconstruct'))
        pairs.append((multiarray.scalar, f'{module}.scalar'))
    torch.serialization.add_safe_globals(pairs)

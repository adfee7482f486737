"""Make the checkpoints that MMEngine writes load with ``weights_only=True``.

From PyTorch 2.6 on, ``torch.load`` refuses any class and function that is not registered as safe. A
checkpoint of MMEngine has a message hub with history buffers and with arrays and numbers of NumPy.
This module registers stand-ins for their constructors, which make the real objects.
"""

from pickle import UnpicklingError

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.utils import digit_version

from mmseg_ctx.checkpoints.stand_ins import STAND_INS, PickledArray, shown

# HistoryBuffer's statistics. A pickled buffer refers to each as getattr(HistoryBuffer, name).
STATISTICS = ('min', 'max', 'current', 'mean')


class PickledHistoryBuffer(HistoryBuffer):
    """Stands in for ``HistoryBuffer``, and becomes one when it gets its state.

    ``HistoryBuffer`` itself accepts any state, which could overwrite its methods and the statistics
    that all buffers of the process share.
    """

    def __new__(cls, *arguments):
        if arguments:
            raise UnpicklingError('it calls HistoryBuffer, which no pickled one does')
        return super().__new__(cls)

    def __setstate__(self, state):
        """Set numbers, counts and the greatest length. The statistics stay those of the class.

        Raises:
            UnpicklingError: The state has other entries, or values of other types.
        """
        fields = {'max_length', '_log_history', '_count_history'}
        if type(state) is not dict or state.keys() - {'statistics_methods'} != fields:
            raise UnpicklingError('it holds a HistoryBuffer with attributes of its own')
        histories = {name: state[name] for name in ('_log_history', '_count_history')}
        for history in histories.values():
            if type(history) is not PickledArray or history.ndim != 1:
                raise UnpicklingError('it holds a HistoryBuffer without lists of numbers')
        if len({len(history) for history in histories.values()}) != 1:
            raise UnpicklingError('it holds a HistoryBuffer whose numbers and counts differ')
        if type(state['max_length']) is not int:
            raise UnpicklingError('it holds a HistoryBuffer whose greatest length is no number')
        self.__class__ = HistoryBuffer
        self._set_default_statistics()
        self.max_length = state['max_length']
        for name, history in histories.items():
            setattr(self, name, np.asarray(history))


class _Statistic:
    """Stands in for ``getattr``, with which a pickled buffer refers to its statistics.

    It returns the name and not the method, since a pickle could call the method with any arguments.
    A loaded buffer has the methods of its class.

    Args:
        owner (type): ``HistoryBuffer`` or its stand-in.
        name (str): ``'min'``, ``'max'``, ``'current'`` or ``'mean'``.

    Returns:
        str: The name.

    Raises:
        UnpicklingError: ``owner`` or ``name`` is something else.
    """

    __slots__ = ()

    def __call__(self, owner, name):
        ours = owner is HistoryBuffer or owner is PickledHistoryBuffer
        if not ours or type(name) is not str or name not in STATISTICS:
            raise UnpicklingError(
                f'a checkpoint may refer to {", ".join(STATISTICS)} of HistoryBuffer by getattr, '
                f'and to nothing else; got {shown(name)} of {shown(owner)}'
            )
        return name


history_buffer_statistic = _Statistic()


def register_safe_globals():
    """Register the stand-ins as safe. Before PyTorch 2.6 this does nothing.

    Each stand-in is registered under the full name of the original. For each of its loads,
    MMEngine's maintained fork registers NumPy's own constructors and the real ``getattr``, under
    the same names. It is undefined which of the two PyTorch takes, so this function makes the fork
    register only ``slice``.
    """
    if digit_version(torch.__version__) < digit_version('2.6.0'):
        return
    torch.serialization.add_safe_globals(
        [
            (history_buffer_statistic, 'builtins.getattr'),
            (PickledHistoryBuffer, 'mmengine.logging.history_buffer.HistoryBuffer'),
            *((stand_in, name) for name, stand_in in STAND_INS.items()),
        ]
    )
    if hasattr(mmengine_checkpoint, 'get_torch_safe_globals'):
        mmengine_checkpoint.get_torch_safe_globals = _other_safe_globals


def _other_safe_globals():
    """Return the classes that MMEngine's fork registers, without those that have stand-ins."""
    return [slice]

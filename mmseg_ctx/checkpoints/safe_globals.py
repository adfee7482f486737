"""Make the checkpoints that MMEngine writes load with ``weights_only=True``.

From PyTorch 2.6 on, ``torch.load`` refuses whatever is not named as safe. A checkpoint of
MMEngine's holds a message hub: history buffers, and NumPy's arrays and numbers. A pickle gets
stand-ins for all of them, and what a loaded checkpoint holds are real ones.
"""

from pickle import UnpicklingError

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.utils import digit_version

from mmseg_ctx.checkpoints.stand_ins import STAND_INS, PickledArray, shown

# HistoryBuffer's own statistics: a pickled buffer refers to each as getattr(HistoryBuffer, name).
STATISTICS = ('min', 'max', 'current', 'mean')


class PickledHistoryBuffer(HistoryBuffer):
    """Stands in for ``HistoryBuffer``, and is one once it has its state.

    ``HistoryBuffer`` takes any state: it would overwrite its methods, and the statistics that all
    buffers of the process share.
    """

    def __new__(cls, *arguments):
        if arguments:
            raise UnpicklingError('it calls HistoryBuffer, which no pickled one does')
        return super().__new__(cls)

    def __setstate__(self, state):
        """Take numbers, counts and the greatest length; the statistics are those of the class.

        Raises:
            UnpicklingError: There is more, or one of them is something else.
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
    """Stands in for ``getattr``, by which a pickled buffer refers to its statistics.

    Args:
        owner (type): ``HistoryBuffer``, or what stands in for it.
        name (str): ``'min'``, ``'max'``, ``'current'`` or ``'mean'``.

    Returns:
        str: The name. The method itself is something that PyTorch would call for a pickle, with
        arguments of the pickle's choosing; a loaded buffer has those of its class.

    Raises:
        UnpicklingError: Anything else is asked for.
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
    """Name what MMEngine's checkpoints hold as safe; does nothing before PyTorch 2.6.

    Each stand-in is registered under the full name of what it stands for. MMEngine's maintained
    fork adds NumPy's own constructors and the real ``getattr`` to the list for each of its loads.
    Which of two objects of one name PyTorch takes is chance, and they do not work together, so the
    fork is told that it needs to add ``slice`` alone.
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
    """Return what MMEngine's fork adds for a load, less what stand-ins are registered for."""
    return [slice]

"""What a child process does: load files, and say of each how that went."""

import json
import os
import pickle
import resource
import signal
import sys
import warnings
from collections import Counter, OrderedDict
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from mmseg_ctx.checkpoints import convert_cac, convert_ctnet, loading, paddle, stand_ins
from tests.checkpoints.hostile import seeds
from tests.helpers import ROOT

LIBRARIES = ('', sys.prefix, sys.base_prefix, str(ROOT))
SECONDS = 10
MEMORY = 2**30  # bytes that a file may take

# Beyond this a child gets no memory, so that the machine is safe whatever a file does.
ADDRESS_SPACE = 6 * 2**30

# What a file that runs anything, or looks for anything outside itself, does sooner or later.
FORBIDDEN = (
    *('os.', 'subprocess.', 'socket.', 'ctypes.', 'urllib.', 'glob.', 'pty.', 'shutil.'),
    *('code.__new__', 'function.__new__', 'pickle.find_class', 'sys.settrace', 'sys.setprofile'),
)

# What a loaded file may hold: what PyTorch makes by itself, and ours.
PLAIN = (
    *(dict, OrderedDict, Counter, list, tuple, set, str, bytes, bytearray, int, float, bool),
    *(complex, type(None), torch.Tensor, torch.nn.Parameter, torch.Size, torch.dtype),
    *(torch.device, torch.layout, torch.storage.TypedStorage, torch.storage.UntypedStorage),
    *(torch.serialization.StorageType, torch.qscheme, stand_ins.PickledDtype),
    *(stand_ins.HistoryBuffer, stand_ins.PickledHistoryBuffer),
)


class Defect(Exception):
    """A file did what no file may do."""


def load_by_torch(path):
    with stand_ins.only_stand_ins():
        return load_by_torch_alone(path)


def load_by_torch_alone(path):
    return torch.load(path, map_location='cpu', weights_only=True)


def only(load):
    """Return ``load``, with any other error than a ValueError as a defect."""

    def call(path):
        try:
            return load(path)
        except ValueError:
            raise
        except Exception as error:
            raise Defect(f'{type(error).__name__}: {error}') from error

    return call


def load_and_convert_ctnet(path):
    arrays = paddle.load_pdparams(path)
    with suppress(IndexError, RuntimeError):  # which the converter expects
        return convert_ctnet.convert_arrays(arrays).state_dict


LOADERS = {
    'torch': load_by_torch,
    'torch alone': load_by_torch_alone,
    'checkpoint': only(loading.load_checkpoint),
    'cac': only(
        lambda path: convert_cac.convert_state_dict(loading.load_checkpoint(path)[0]).state_dict
    ),
    'paddle': only(paddle.load_pdparams),
    'ctnet': only(load_and_convert_ctnet),
    # Python's own, in which the tests see every fault that is looked for.
    'pickle': lambda path: pickle.loads(Path(path).read_bytes()),
}


def check_types(value, seen, depth=0):
    """Raise a Defect for an object that no loaded file holds."""
    if id(value) in seen or depth > 50:
        return
    seen[id(value)] = value
    if isinstance(value, stand_ins.PickledArray):
        value = getattr(value, 'array', np.zeros(0))
    if isinstance(value, np.ndarray | np.generic):
        known = value.dtype.kind in 'biuf'
    elif callable(value) and type(value) not in PLAIN:  # a name that a file may ask for
        known = value.__module__.startswith(('torch', 'collections', 'mmseg_ctx.checkpoints'))
    else:
        known = type(value) in PLAIN
    if not known:
        raise Defect(f'it holds a {type(value)}')
    if isinstance(value, dict):
        value = [each for pair in dict.items(value) for each in pair]
    if isinstance(value, list | tuple | set):
        for each in list(value):
            check_types(each, seen, depth + 1)


def state():
    """Return what no file may change, as far as it can be compared."""
    things = (*paddle.ALLOWED.values(), *stand_ins.STAND_INS.values(), stand_ins.HistoryBuffer)
    names = [{name: str(value) for name, value in vars(each).items()} for each in things]
    return names, sorted(paddle.ALLOWED), sorted(stand_ins.STAND_INS)


class Guard:
    """An audit hook that notes what a file does. It cannot be removed, so a child has its own."""

    event = file = None

    def __call__(self, event, arguments):
        if self.file is not None and self._is_forbidden(event, arguments):
            self.event = self.event or f'{event} {arguments}'[:300]

    def _is_forbidden(self, event, arguments):
        if event == 'open':
            path, _, flags = arguments
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            return writes or not (path == self.file or _is_library(path))
        if event in ('exec', 'os.listdir', 'os.scandir'):  # a module that is imported when needed
            return not _is_library(getattr(arguments[0], 'co_filename', arguments[0]))
        return event.startswith(FORBIDDEN)


def _is_library(path):
    return any(str(path).startswith(f'{place}/') or path == place for place in LIBRARIES)


def attempt(load, guard, path):
    """Load a file, and return how that went and why."""
    before, peak = state(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    guard.event, guard.file = None, path
    try:
        value = load(path)
        guard.file = None
        check_types(value, {})
        outcome = 'loaded', ''
    except Defect as error:
        outcome = 'unexpected', str(error)
    except Exception as error:
        # PyTorch's advice comes before what was wrong.
        text = str(error).rpartition('WeightsUnpickler error: ')[2]
        outcome = 'refused', f'{type(error).__name__}: {text[:300]}'
    guard.file = None
    if guard.event or Path('canary').exists():
        Path('canary').unlink(missing_ok=True)
        return 'ran', guard.event or 'the canary'
    if state() != before:
        return 'unexpected', 'it changed what stands in for a constructor'
    taken = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)
    return ('memory', f'{taken / 2**30:.1f} GiB') if taken > MEMORY else outcome


def warm_up(path):
    """Import now what is imported when it is first needed, and fill what is filled only once."""
    repr(torch.zeros(1))
    for content in (seeds.zip_pickles()[1], seeds.legacy(), *seeds.paddle_pickles()):
        path.write_bytes(content)
        for load in LOADERS.values():
            with suppress(Exception):
                load(path)


def load_all(cases, log, folder):
    """Load files one after another, and add a line of JSON to a log for each."""
    os.chdir(folder)
    warnings.simplefilter('ignore')
    warm_up(Path('valid'))
    with open(log, 'a', buffering=1) as answers:
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        guard = Guard()
        sys.addaudithook(guard)
        for loader, path in cases:
            # Which end a process that hangs: CPU time, since the machine may be busy.
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            signal.setitimer(signal.ITIMER_REAL, 10 * SECONDS)
            outcome = attempt(LOADERS[loader], guard, str(path))
            answers.write(json.dumps(outcome) + '\n')
            if outcome[0] in ('memory', 'ran', 'unexpected'):
                break  # the next file gets a child of its own
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)

"""A process that loads files in children of its own, and says of each how that went.

It reads lines of JSON, ``[loader, path]``, from its standard input, and answers each in order.
"""

import codecs
import contextlib
import io
import json
import os
import pickle
import resource
import signal
import sys
import tempfile
import warnings
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parents[3]

# The config of the model that the converter is to fill, and where MMEngine copies it.
CONFIG = 'config.py'
COPIES = os.path.join(tempfile.gettempdir(), 'tmp')

LIBRARIES = (sys.prefix, sys.base_prefix, str(ROOT), COPIES)

SECONDS = 10
MEMORY = 2**30

# Beyond this a child gets no memory, so that the machine is safe whatever a file does.
ADDRESS_SPACE = 6 * 2**30

# What a file that runs anything, or looks for anything outside itself, does sooner or later.
FORBIDDEN = (
    *('exec', 'code.__new__', 'function.__new__'),
    *('os.', 'subprocess.', 'socket.', 'ctypes.', 'urllib.', 'glob.'),
    *('pickle.find_class', 'sys.settrace', 'sys.setprofile', 'pty.'),
)

# Of the objects that a loaded file holds, those that PyTorch makes by itself, and ours.
PLAIN = (
    *(dict, OrderedDict, Counter, list, tuple, set, str, bytes, bytearray, int, float, bool),
    *(complex, type(None), torch.Tensor, torch.nn.Parameter, torch.Size, torch.dtype),
    *(torch.device, torch.layout, torch.storage.TypedStorage, torch.storage.UntypedStorage),
    *(torch.serialization.StorageType, torch.qscheme),
)


class Unexpected(Exception):
    """A file did what no file may do."""


def loaders(plain):
    """Return the ways of loading a file, by name; ``plain`` ones know nothing of the plugin."""
    found = {'torch': lambda path: torch.load(path, map_location='cpu', weights_only=True)}
    if plain:
        # Python's own, in which every fault is seen that is looked for.
        found['pickle'] = lambda path: pickle.loads(Path(path).read_bytes())
        return found, lambda: None
    from mmengine.logging import HistoryBuffer

    import mmseg_ctx  # noqa: F401  (registers the stand-ins)
    from mmseg_ctx.checkpoints import loading, paddle, stand_ins
    from mmseg_ctx.checkpoints.safe_globals import PickledHistoryBuffer
    from tools.convert_checkpoint import main

    def tool(command, *options):
        def call(path):
            destination = Path(f'{path}.out')
            try:
                main([command, path, str(destination), *options])
            finally:
                destination.unlink(missing_ok=True)

        return only(call, ValueError, OSError)

    found['checkpoint'] = only(loading.load_checkpoint, ValueError)
    found['paddle'] = only(paddle.load_pdparams, ValueError)
    found['ctnet'] = tool('ctnet', '--partial', '--config', CONFIG)
    found['cac'] = tool('cac', '--partial')
    classes = [HistoryBuffer, *(type(each) for each in paddle.ALLOWED.values())]
    classes += [PickledHistoryBuffer, stand_ins.PickledArray, stand_ins.PickledDtype]

    def state():
        """Return what no file may change, as far as it can be compared."""
        return (
            [{name: str(value) for name, value in vars(each).items()} for each in classes],
            stand_ins.UNFILLED.shape,
            str(stand_ins.UNFILLED.dtype),
            sorted(paddle.ALLOWED),
        )

    return found, state


def only(load, *errors):
    """Return ``load``, with any other error than these as an unexpected one."""

    def call(path):
        try:
            return load(path)
        except errors:
            raise
        except Exception as error:
            raise Unexpected(f'{type(error).__name__}: {error}') from error

    return call


def check_types(value, seen, depth=0):
    """Raise Unexpected for an object that no loaded file holds."""
    if id(value) in seen:
        return
    seen[id(value)] = value
    kind = type(value)
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind not in 'biuf' or value.dtype.fields or not value.dtype.isnative:
            raise Unexpected(f'an array of {value.dtype}')
        if isinstance(value, np.ndarray):
            value.tolist() if value.nbytes < 2**20 else value.sum()
    elif kind.__module__.startswith(('mmseg_ctx.', 'mmengine.')) or callable(value):
        if kind.__name__ == 'HistoryBuffer':
            numbers, counts = value.data
            if type(numbers) is not np.ndarray or type(counts) is not np.ndarray:
                raise Unexpected('a HistoryBuffer without arrays')
            if vars(value).keys() != {'max_length', '_log_history', '_count_history'}:
                raise Unexpected('a HistoryBuffer with attributes')
    elif kind not in PLAIN:
        raise Unexpected(f'a {kind.__module__}.{kind.__qualname__}')
    if depth < 50 and isinstance(value, dict):
        for pair in list(dict.items(value)):
            check_types(pair, seen, depth + 1)
    elif depth < 50 and isinstance(value, list | tuple | set):
        for each in list(value):
            check_types(each, seen, depth + 1)


class Guard:
    """An audit hook that notes what a file does. It cannot be removed, so a child has its own."""

    def __init__(self):
        self.event = self.file = None

    def __call__(self, event, arguments):
        if self.file is not None and self._is_forbidden(event, arguments):
            self.event = self.event or f'{event} {arguments}'[:300]

    def _is_forbidden(self, event, arguments):
        match event:
            case 'open':
                path, _, flags = arguments
                if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                    return not self._is_output(path)
                return str(path) != self.file and not _is_library(path)
            case 'os.remove' | 'os.rename' | 'os.mkdir' | 'os.rmdir':
                return not self._is_output(arguments[0])
            case 'os.scandir':
                return not self._is_output(arguments[0]) and not _is_library(arguments[0])
            case 'exec':  # a module of a library that is imported when it is first needed
                return not _is_library(arguments[0].co_filename)
            case 'object.__setattr__':
                return arguments[1] == '__code__'
        return event.startswith(FORBIDDEN)

    def _is_output(self, path):
        """Whether a tool writes to a path: its output, or a temporary file of it or MMEngine's."""
        if isinstance(path, int):  # of a folder that shutil removes
            return True
        folder, name = os.path.split(self.file)
        ours = (f'{self.file}.out', os.path.join(folder, f'.{name}'))
        return str(path).startswith((*ours, COPIES, 'tmp'))


def _is_library(path):
    """Whether code is of this project or a library, or of a config, which MMEngine copies."""
    known = ('', CONFIG, os.path.abspath(CONFIG))
    return str(path) in known or str(path).startswith(LIBRARIES)


def attempt(load, state, guard, path):
    """Load a file, and return how that went and why."""
    before, peak = state(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    guard.event, guard.file = None, path
    try:
        value = load(path)
        guard.file = None
        check_types(value, {})
        outcome = 'loaded', ''
    except Unexpected as error:
        outcome = 'unexpected', str(error)
    except SystemExit as error:
        outcome = 'refused', f'status {error.code}'
    except Exception as error:
        # PyTorch's advice comes before what was wrong.
        text = str(error).rpartition('WeightsUnpickler error: ')[2]
        outcome = 'refused', f'{type(error).__name__}: {text[:300]}'
    guard.file = None
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    canary = Path('canary')
    if guard.event or canary.exists():
        canary.unlink(missing_ok=True)
        return 'ran', guard.event or 'the canary'
    if state() != before:
        return 'unexpected', 'it changed a class'
    if taken * 1024 > MEMORY:
        return 'memory', f'{taken / 2**20:.1f} GiB'
    return outcome


def child(cases, found, state, answers):
    """Load files one after another; each answer is a line of JSON."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    guard = Guard()
    sys.addaudithook(guard)
    for loader, path in cases:
        # Which end a process that hangs: CPU time, since the machine may be busy.
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.setitimer(signal.ITIMER_REAL, 10 * SECONDS)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            outcome = attempt(found[loader], state, guard, path)
        os.write(answers, (json.dumps(outcome) + '\n').encode())
        if outcome[0] in ('memory', 'ran', 'unexpected'):
            break  # the next file gets a child of its own


def answer(cases, found, state):
    """Yield how each file went; a child that dies took the file that it was at with it."""
    cases = list(cases)
    while cases:
        reading, writing = os.pipe()
        process = os.fork()
        if not process:
            os.close(reading)
            child(cases, found, state, writing)
            os._exit(0)
        os.close(writing)
        with open(reading) as lines:
            outcomes = [json.loads(line) for line in lines]
        _, status = os.waitpid(process, 0)
        yield from outcomes
        cases = cases[len(outcomes) :]
        if status:
            number = os.waitstatus_to_exitcode(status)
            kind = 'hung' if -number in (signal.SIGALRM, signal.SIGPROF) else 'crashed'
            yield kind, signal.Signals(-number).name if number < 0 else f'status {number}'
            cases = cases[1:]


def main():
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    plain, *valid = sys.argv[1:]
    found, state = loaders(plain == 'plain')
    # What is imported when it is first needed is imported now.
    repr(torch.zeros(1))
    for encoding in ('latin1', 'raw_unicode_escape', 'unicode_escape', 'utf-8', 'ascii'):
        codecs.lookup(encoding)
    for path in valid:
        for load in found.values():
            with contextlib.redirect_stdout(None), contextlib.suppress(Exception, SystemExit):
                load(path)
    print('ready', flush=True)
    for line in sys.stdin:
        for outcome in answer(json.loads(line), found, state):
            print(json.dumps(outcome), flush=True)


if __name__ == '__main__':
    main()

"""Time and peak memory of steps, paired in one run.

The cases of a comparison take turns, A B C A B C …, so that other work of the machine slows all of
them. The result is the ratio within a round: its median, and its quartiles as spread.
"""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import timer

from mmseg_ctx.utils.errors import one_line
from mmseg_ctx.utils.tables import Column, Table

# PyTorch's profiler otherwise reports its own start and stop on standard error.
os.environ.setdefault('KINETO_LOG_LEVEL', '99')


class Setting(NamedTuple):
    """Where and how steps run."""

    device: str = 'cpu'
    dtype: str = 'float32'  # any other type is autocast's
    memory_format: str = 'contiguous'  # of weights and inputs; or 'channels-last'
    load: int = 0  # busy processes beside the measured one

    def place(self, item):
        """Return a module, a tensor, or tensors in lists, on the device in the memory format.

        Tensors that are on the meta device get random values.
        """
        if isinstance(item, list | tuple):
            return [self.place(each) for each in item]
        if getattr(item, 'is_meta', False):
            item = torch.randn_like(item, device=self.device)
        if self.memory_format == 'contiguous' or getattr(item, 'ndim', 4) != 4:
            return item.to(self.device)
        return item.to(self.device, memory_format=torch.channels_last)

    def autocast(self):
        """Return the context in which a model is called."""
        kind, dtype = torch.device(self.device).type, getattr(torch, self.dtype)
        return torch.autocast(kind, dtype, enabled=self.dtype != 'float32')


@dataclass
class Comparison:
    """Cases that take turns, each a function that builds a step for a setting."""

    title: str  # what a step is
    cases: dict  # by name, Callable[[Setting], Callable[[], object]]
    against: Sequence  # names of the cases that the ratios are to
    facts: Sequence = ()  # lines below the table


def run_comparison(comparison, setting, repeats, progress=lambda case: None):
    """Measure the cases of a comparison in ``repeats`` rounds, and return the table.

    A row has ``seconds`` ``[low, median, high]`` (quartiles), ``ratios``, the same for each case
    of ``against`` by name, ``peak_bytes``, ``rounds``, the seconds of each, and ``error``: why a
    case has no figures, because memory is missing or its code refuses the setting. ``progress``
    is called before each step with the name of its case.
    """
    rows, steps = {}, {}
    for name, prepare in comparison.cases.items():
        empty = dict(seconds=None, ratios={}, peak_bytes=None, rounds=[], error=None)
        rows[name] = dict(case=name, **empty)
        try:
            progress(name)
            step = prepare(setting)
            step()  # warm up
            progress(name)
            rows[name]['peak_bytes'] = peak_memory(step, setting.device)
            steps[name] = step
        except (RuntimeError, MemoryError) as error:
            rows[name]['error'] = one_line(error)[:200]
    with ExitStack() as stack:
        for _ in range(setting.load):
            busy = stack.enter_context(subprocess.Popen([sys.executable, '-c', 'while True: pass']))
            stack.callback(busy.kill)
        for _ in range(repeats):
            for name, step in steps.items():
                progress(name)
                start = timer()
                step()
                rows[name]['rounds'].append(timer() - start)  # waits for the device
    for name in steps:
        row = rows[name]
        row['seconds'] = _quartiles(row['rounds'])
        for other in comparison.against:
            if other in steps and other != name:
                row['ratios'][other] = _quartiles(np.divide(row['rounds'], rows[other]['rounds']))
    facts = (*comparison.facts, *_circumstances(setting, repeats))
    return Table(comparison.title, _columns(comparison, rows), list(rows.values()), facts)


def peak_memory(step, device='cpu'):
    """Return how many bytes a step, called once, holds at most beyond what was held before.

    On the CPU these are the allocations of PyTorch's own allocator, as its profiler records them,
    with the temporary ones within an operation; what oneDNN allocates for itself is not seen.
    """
    if torch.device(device).type == 'cuda':
        held = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - held
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    events = recorded.profiler.kineto_results.events()
    changes = [(each.start_ns(), each.nbytes()) for each in events if each.name() == '[memory]']
    return max(accumulate(size for _, size in sorted(changes, key=itemgetter(0))), default=0)


def _quartiles(values):
    return np.quantile(values, (0.25, 0.5, 0.75)).tolist()


def _columns(comparison, rows):
    def spread(quartiles, digits):
        low, median, high = (f'{value:.{digits}f}' for value in quartiles)
        return f'{median} ({low}–{high})'

    against = [name for name in comparison.against if name in rows]

    def ratio(name, ratios):
        return spread(ratios[name], 3) if name in ratios else ''

    return [
        Column('case', 'case'),
        Column('seconds', 'time [ms]', lambda seconds: spread(np.multiply(seconds, 1000), 1)),
        *(Column('ratios', f'time / {each}', partial(ratio, each)) for each in against),
        Column('peak_bytes', 'peak memory [MiB]', mib),
        *[Column('error', 'not measured')] * any(row['error'] for row in rows.values()),
    ]


def mib(value):
    """Show bytes in MiB."""
    return f'{value / 2**20:.1f}'


def _circumstances(setting, repeats):
    """Return the lines below every table: machine and packages, settings, what the figures are."""
    if setting.device == 'cpu':
        info = Path('/proc/cpuinfo')  # of Linux
        models = re.findall(r'model name\s*: (.+)', info.read_text() if info.exists() else '')
        machine = f'{(models or [platform.machine()])[0]}, {torch.get_num_threads()} threads'
    else:
        machine = torch.cuda.get_device_name(setting.device)
    dtype = setting.dtype + (' by autocast' if setting.dtype != 'float32' else '')
    load = f'; beside {setting.load} busy processes' if setting.load else ''
    return (
        f'{machine}; PyTorch {torch.__version__}; {dtype}, {setting.memory_format}{load}.',
        f'Medians of {repeats} rounds in which the cases take turns, quartiles in brackets. '
        'Each round gives the ratio of two of its times; the median of these ratios is shown, not '
        'the ratio of the two medians. Peak memory is beyond weights and inputs.',
    )

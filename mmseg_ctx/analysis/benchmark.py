"""Time and peak memory of steps, paired in one run.

The cases of a comparison take turns, A B C A B C …, so that other work of the machine slows all of
them. The result is the ratio within a round: its median, and its quartiles as spread.
"""

import json
import os
import platform
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from mmseg_ctx.analysis.complexity import COLUMNS
from mmseg_ctx.utils.errors import one_line
from mmseg_ctx.utils.tables import Column, Table

# PyTorch's profiler otherwise reports its own start and stop on standard error.
os.environ.setdefault('KINETO_LOG_LEVEL', '99')


class Setting(NamedTuple):
    """Where and how steps run."""

    device: str = 'cpu'
    dtype: str = 'float32'  # any other is that of autocast
    memory_format: str = 'contiguous'  # of weights and inputs; or 'channels-last'

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
    """Cases that take turns, each a function that builds a step for a setting.

    Attributes:
        title (str): What a step is.
        cases (dict[str, Callable[[Setting], Callable[[], object]]]): Cases by name.
        against (Sequence[str]): The cases that the ratios are to.
        facts (Sequence[str]): Lines below the table. Default: none.
        notes (dict[str, str]): Further lines about cases. Default: none.
        needed_bytes (dict[str, int]): Memory without which a case is not tried. Default: none.
        complexity (dict[str, Complexity]): What cases cost. Default: not in the table.
    """

    title: str
    cases: dict
    against: Sequence
    facts: Sequence = ()
    notes: dict = field(default_factory=dict)
    needed_bytes: dict = field(default_factory=dict)
    complexity: dict = field(default_factory=dict)


def run_comparison(comparison, setting, repeats, progress=lambda case: None):
    """Measure the cases of a comparison in ``repeats`` rounds, and return the table.

    A row has ``seconds`` ``[low, median, high]`` (quartiles), ``ratios``, the same for each case
    of ``against`` by name, ``peak_bytes``, ``rounds``, the seconds of each, and ``error``: why a
    case has no figures, because memory is missing or its code refuses the setting. ``progress``
    is called before each step with the name of its case.
    """
    rows, steps = {}, {}
    for name, prepare in comparison.cases.items():
        row = dict(case=name, seconds=None, ratios={}, peak_bytes=None, rounds=[], error=None)
        if name in comparison.complexity:
            row.update(comparison.complexity[name]._asdict())
        rows[name] = row
        try:
            _check_memory(comparison.needed_bytes.get(name, 0), setting)
            progress(name)
            step = prepare(setting)
            step()  # warm up
            progress(name)
            row['peak_bytes'] = peak_memory(step, setting.device)
            steps[name] = step
        except (RuntimeError, MemoryError) as error:
            row['error'] = one_line(error)[:200]
    for _ in range(repeats):
        for name, step in steps.items():
            progress(name)
            start = _now(setting)
            step()
            rows[name]['rounds'].append(_now(setting) - start)
    for name in steps:
        row = rows[name]
        row['seconds'] = _quartiles(row['rounds'])
        for other in comparison.against:
            if other in steps and other != name:
                row['ratios'][other] = _quartiles(np.divide(row['rounds'], rows[other]['rounds']))
    notes = [comparison.notes[name] for name in rows if name in comparison.notes]
    facts = (*notes, *comparison.facts, *_circumstances(setting, repeats), *_doubts(rows))
    return Table(comparison.title, _columns(comparison, rows), list(rows.values()), facts)


def _check_memory(needed, setting):
    if setting.device == 'cpu':  # what is free includes the cache of files
        free = 1024 * float(_find('/proc/meminfo', r'MemAvailable: *(\d+) kB') or 'inf')
    else:
        free = torch.cuda.mem_get_info(setting.device)[0]
    if needed > free:
        needed, free = (f'{value / 2**30:.1f} GiB' for value in (needed, free))
        raise MemoryError(f'needs {needed}, {free} are free')


def _find(path, pattern):
    """Return the first group of a pattern in a file; None without the file or the text."""
    path = Path(path)
    match = re.search(pattern, path.read_text()) if path.exists() else None
    return match and match[1]


def _now(setting):
    """Return the time at which the device has done what it was given, in seconds."""
    if setting.device != 'cpu':
        torch.cuda.synchronize(setting.device)
    return time.perf_counter()


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
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'trace.json')
        recorded.export_chrome_trace(str(path))
        events = json.loads(path.read_text())['traceEvents']
    changes = [event for event in events if event['name'] == '[memory]']
    live, held, peak = {}, 0, 0
    for event in sorted(changes, key=lambda event: event['ts']):
        address, size = event['args']['Addr'], event['args']['Bytes']
        if size > 0:
            live[address] = size
            held += size
        else:
            held -= live.pop(address, 0)  # nothing for a block from before the profile
        peak = max(peak, held)
    return peak


def _quartiles(values):
    return np.quantile(values, (0.25, 0.5, 0.75)).tolist()


def _columns(comparison, rows):
    columns = [Column('case', 'case'), *(COLUMNS if comparison.complexity else ())]
    columns.append(Column('seconds', 'time [ms]', lambda seconds: _spread(seconds, 1000, 1)))
    for name in comparison.against:

        def show(ratios, name=name):
            return _spread(ratios[name], 1, 3) if name in ratios else ''

        if name in rows:
            columns.append(Column('ratios', f'time / {name}', show))
    columns.append(Column('peak_bytes', 'peak memory [MiB]', mib))
    if any(row['error'] for row in rows.values()):
        columns.append(Column('error', 'not measured'))
    return columns


def _spread(quartiles, scale, digits):
    low, median, high = (f'{scale * value:.{digits}f}' for value in quartiles)
    return f'{median} ({low}–{high})'


def mib(value):
    """Show bytes in MiB."""
    return f'{value / 2**20:.1f}'


def _circumstances(setting, repeats):
    """Return the lines below every table: machine and packages, settings, what the figures are."""
    if setting.device == 'cpu':
        processor = _find('/proc/cpuinfo', r'model name\s*: (.+)') or platform.machine()
        machine = f'{processor}, {torch.get_num_threads()} threads'
    else:
        machine = torch.cuda.get_device_name(setting.device)
    dtype = setting.dtype + (' by autocast' if setting.dtype != 'float32' else '')
    return (
        f'{machine}; PyTorch {torch.__version__}; {dtype}, {setting.memory_format}.',
        f'Medians of {repeats} rounds in which the cases take turns, quartiles in brackets. '
        'Each round gives the ratio of two of its times; the median of these ratios is shown, not '
        'the ratio of the two medians. Peak memory is beyond weights and inputs.',
    )


def _doubts(rows):
    """Yield a line for each ratio that more rounds would have to settle."""
    for row in rows.values():
        for other, quartiles in row['ratios'].items():
            ratio = row['seconds'][1] / rows[other]['seconds'][1]
            low, ratio, high = (round(value, 3) for value in (quartiles[0], ratio, quartiles[2]))
            if not low <= ratio <= high:
                yield (
                    f'{row["case"]} / {other}: the medians have the ratio {ratio:.3f}, outside the '
                    'quartiles; the machine was busy, measure more rounds.'
                )

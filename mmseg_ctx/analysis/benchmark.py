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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from mmseg_ctx.analysis.complexity import COLUMNS, Complexity
from mmseg_ctx.utils.errors import one_line
from mmseg_ctx.utils.tables import Column, Table

# PyTorch's profiler otherwise reports its own start and stop on standard error.
os.environ.setdefault('KINETO_LOG_LEVEL', '99')

DTYPES = ('float32', 'bfloat16', 'float16')
MEMORY_FORMATS = ('contiguous', 'channels-last')


class Setting(NamedTuple):
    """Where and how steps run.

    Attributes:
        device (str): ``'cpu'``, ``'cuda'`` or ``'cuda:N'``. Default: ``'cpu'``.
        dtype (str): ``'float32'``, or what autocast computes in. Default: ``'float32'``.
        memory_format (str): Of inputs and weights, ``'contiguous'`` or ``'channels-last'``.
            Default: ``'contiguous'``.
        sizes (tuple[int] | None): Sizes in place of the suite's. Default: None.
    """

    device: str = 'cpu'
    dtype: str = 'float32'
    memory_format: str = 'contiguous'
    sizes: tuple | None = None

    @property
    def is_cuda(self):
        """Whether the device is a GPU, which computes while Python goes on."""
        return torch.device(self.device).type == 'cuda'

    def place(self, item):
        """Return a module, a tensor or a list of tensors on the device, in the memory format."""
        if isinstance(item, list | tuple):
            return [self.place(each) for each in item]
        if self.memory_format == 'contiguous' or getattr(item, 'ndim', 4) != 4:
            return item.to(self.device)
        return item.to(self.device, memory_format=torch.channels_last)

    def autocast(self):
        """Return the context in which a model is called."""
        kind, dtype = torch.device(self.device).type, getattr(torch, self.dtype)
        return torch.autocast(kind, dtype, enabled=self.dtype != 'float32')


class Case(NamedTuple):
    """One of the things that are compared.

    Attributes:
        name (str): In the table.
        prepare (Callable[[], Callable[[], object]]): Builds what is needed and returns the step
            that is measured.
        needed_bytes (int): Memory without which the case is not tried. Default: 0.
        complexity (Complexity | None): For the table. Default: None.
        note (str): What the reader has to know about this case, a line below the table.
            Default: none.
    """

    name: str
    prepare: Callable
    needed_bytes: int = 0
    complexity: Complexity | None = None
    note: str = ''


class Comparison(NamedTuple):
    """Cases that take turns.

    Attributes:
        title (str): What a step is, and its sizes.
        cases (Sequence[Case]): In the order of their turns.
        against (Sequence[str]): Names of the cases that the ratios are to.
        facts (Sequence[str]): Lines below the table. Default: none.
    """

    title: str
    cases: Sequence
    against: Sequence
    facts: tuple = ()


def select_cases(comparisons, names):
    """Return the comparisons with only the cases of these names, without those left empty.

    Raises:
        ValueError: There is no such case.
    """
    known = list(dict.fromkeys(case.name for each in comparisons for case in each.cases))
    for name in names:
        if name not in known:
            raise ValueError(f'cases must be among {", ".join(known)}, got {name!r}')
    chosen = [
        each._replace(cases=[case for case in each.cases if case.name in names])
        for each in comparisons
    ]
    return [each for each in chosen if each.cases]


def run_comparison(comparison, setting, repeats, progress=lambda case: None):
    """Measure the cases of a comparison.

    A case that cannot run, because memory is missing or its code refuses the setting, has the
    reason in the table in place of figures.

    Args:
        comparison (Comparison): What to measure.
        setting (Setting): Where and how.
        repeats (int): Rounds.
        progress (Callable[[str], None]): Called before each step with the name of its case.

    Returns:
        Table: A row for each case: ``seconds`` ``[low, median, high]`` (quartiles), ``ratios``,
        the same for each case of ``against`` by name, ``peak_bytes``, ``rounds``, the seconds of
        each, and ``error``.
    """
    rows, steps = {}, {}
    for case in comparison.cases:
        costs = case.complexity._asdict() if case.complexity else {}
        row = dict(case=case.name, seconds=None, ratios={}, peak_bytes=None, rounds=[], error=None)
        rows[case.name] = row = {**row, **costs}
        try:
            _check_memory(case, setting)
            progress(case.name)
            step = case.prepare()
            step()  # warm up
            progress(case.name)
            row['peak_bytes'] = peak_memory(step, setting.device)
            steps[case.name] = step
        except (RuntimeError, MemoryError) as error:
            row['error'] = one_line(error)[:200]
    for _ in range(repeats):
        for name, step in steps.items():
            progress(name)
            rows[name]['rounds'].append(time_step(step, setting))
    for name in steps:
        row = rows[name]
        row['seconds'] = quartiles(row['rounds'])
        for other in comparison.against:
            if other in steps and other != name:
                row['ratios'][other] = quartiles(np.divide(row['rounds'], rows[other]['rounds']))
    notes = [case.note for case in comparison.cases if case.note]
    facts = (*notes, *comparison.facts, *describe(setting, repeats), *_doubts(rows))
    return Table(comparison.title, _columns(comparison, rows), list(rows.values()), facts)


def _check_memory(case, setting):
    free = _available_bytes(setting)
    if case.needed_bytes > free:
        needed, free = (f'{value / 2**30:.1f} GiB' for value in (case.needed_bytes, free))
        raise MemoryError(f'needs {needed}, {free} are free')


def _available_bytes(setting):
    """Return the device's free memory; the host's includes the cache of files."""
    if setting.is_cuda:
        return torch.cuda.mem_get_info(setting.device)[0]
    if available := _first_match('/proc/meminfo', r'MemAvailable: *(\d+) kB'):
        return 1024 * int(available)
    return os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')


def _first_match(path, pattern):
    """Return the first group where a pattern is first found; None without the file or the text."""
    path = Path(path)
    match = re.search(pattern, path.read_text()) if path.exists() else None
    return match and match[1]


def time_step(step, setting):
    """Return the seconds that a step takes until the device has done it."""
    _wait(setting)
    start = time.perf_counter()
    step()
    _wait(setting)
    return time.perf_counter() - start


def _wait(setting):
    if setting.is_cuda:
        torch.cuda.synchronize(setting.device)


def peak_memory(step, device='cpu'):
    """Return how much memory a step holds at most, beyond what was held before.

    On the CPU these are the allocations of PyTorch's own allocator, as its profiler records them,
    with the temporary ones within an operation; what oneDNN allocates for itself is not seen.

    Args:
        step (Callable[[], object]): Called once.
        device (str): Where it computes. Default: ``'cpu'``.

    Returns:
        int: Bytes.
    """
    if torch.device(device).type == 'cuda':
        torch.cuda.synchronize(device)
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


def quartiles(values):
    """Return the lower quartile, the median and the upper quartile of at least one number."""
    return np.quantile(values, (0.25, 0.5, 0.75)).tolist()


def _columns(comparison, rows):
    columns = [Column('case', 'case')]
    if any('parameters' in row for row in rows.values()):
        columns += COLUMNS
    columns.append(Column('seconds', 'time [ms]', lambda values: spread(values, 1000, 1)))
    columns += [
        Column(
            'ratios',
            f'time / {name}',
            lambda ratios, name=name: spread(ratios[name], 1, 3) if name in ratios else '',
        )
        for name in comparison.against
        if name in rows
    ]
    columns.append(Column('peak_bytes', 'peak memory [MiB]', mib))
    if any(row['error'] for row in rows.values()):
        columns.append(Column('error', 'not measured'))
    return tuple(columns)


def spread(values, scale, digits):
    """Show quartiles, scaled, as ``median (low–high)``."""
    low, median, high = (f'{scale * value:.{digits}f}' for value in values)
    return f'{median} ({low}–{high})'


def mib(value):
    """Show bytes in MiB."""
    return f'{value / 2**20:.1f}'


def describe(setting, repeats):
    """Return the lines below every table: machine and packages, settings, what the figures are."""
    processor = _first_match('/proc/cpuinfo', r'model name\s*: (.+)') or platform.machine()
    machine = f'{processor}, {torch.get_num_threads()} threads'
    if setting.is_cuda:
        machine = torch.cuda.get_device_name(setting.device)
    dtype = setting.dtype + (' by autocast' if setting.dtype != 'float32' else '')
    return (
        f'{machine}; PyTorch {torch.__version__}; {dtype}, {setting.memory_format}.',
        f'Medians of {repeats} rounds in which the cases take turns, quartiles in brackets. '
        'Each round gives the ratio of two of its times; the median of these ratios is shown, not '
        'the ratio of the two medians. Peak memory is beyond weights and inputs.',
    )


def _doubts(rows):
    """Return a line for each ratio that more rounds would have to settle."""
    lines = []
    for row in rows.values():
        for other, (low, _, high) in row['ratios'].items():
            ratio = round(row['seconds'][1] / rows[other]['seconds'][1], 3)
            if not round(low, 3) <= ratio <= round(high, 3):
                lines.append(
                    f'{row["case"]} / {other}: the medians have the ratio {ratio:.3f}, outside the '
                    'quartiles; the machine was busy, measure more rounds.'
                )
    return tuple(lines)

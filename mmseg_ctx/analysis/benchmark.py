"""Time and peak memory of steps, paired in one run.

The cases of a comparison take turns, A B C A B C …, so that whatever else the machine does meets
all of them. What is compared is the ratio within a round: its median, and its quartiles as spread.
"""

import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

from mmseg_ctx.analysis.complexity import Complexity
from mmseg_ctx.analysis.complexity_tables import COMPLEXITY_COLUMNS
from mmseg_ctx.utils.tables import Column, Table

# PyTorch's profiler otherwise reports its own start and stop on standard error.
os.environ.setdefault('KINETO_LOG_LEVEL', '99')

DTYPES = ('float32', 'bfloat16', 'float16')
MEMORY_FORMATS = ('contiguous', 'channels-last')


class Setting(NamedTuple):
    """Where and how steps run.

    Attributes:
        device (str): ``'cpu'`` or ``'cuda'``. Default: ``'cpu'``.
        dtype (str): ``'float32'``, or what autocast computes in. Default: ``'float32'``.
        memory_format (str): Of inputs and weights, ``'contiguous'`` or ``'channels-last'``.
            Default: ``'contiguous'``.
        sizes (tuple[int] | None): What the suite's sizes are replaced by. Default: None.
    """

    device: str = 'cpu'
    dtype: str = 'float32'
    memory_format: str = 'contiguous'
    sizes: tuple | None = None

    def place(self, item):
        """Return a module or a tensor on the device and in the memory format."""
        if self.memory_format == 'contiguous' or getattr(item, 'ndim', 4) != 4:
            return item.to(self.device)
        return item.to(self.device, memory_format=torch.channels_last)

    def autocast(self):
        """Return the context in which a model is called."""
        if self.dtype == 'float32':
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, getattr(torch, self.dtype))


class Case(NamedTuple):
    """One of the things that are compared.

    Attributes:
        name (str): In the table.
        prepare (Callable[[], Callable[[], object]]): Builds what is needed and returns the step
            that is measured.
        needed_bytes (int): Memory without which the case is not tried. Default: 0.
        complexity (Complexity | None): For the table. Default: None.
    """

    name: str
    prepare: Callable
    needed_bytes: int = 0
    complexity: Complexity | None = None


class Comparison(NamedTuple):
    """Cases that take turns.

    Attributes:
        title (str): What a step is, and its sizes.
        cases (Sequence[Case]): In the order of their turns.
        against (Sequence[str]): Names of the cases that the ratios are to.
        facts (Sequence[str]): Lines below the table. Default: none.
    """

    title: str
    cases: tuple
    against: tuple
    facts: tuple = ()


def _wait(device):
    if torch.device(device).type == 'cuda':
        torch.cuda.synchronize(device)


def seconds(step, device='cpu'):
    """Return how long a step takes, until the device has done it.

    Args:
        step (Callable[[], object]): Called once.
        device (str): Where it computes. Default: ``'cpu'``.

    Returns:
        float: Seconds.
    """
    _wait(device)
    start = time.perf_counter()
    step()
    _wait(device)
    return time.perf_counter() - start


def peak_memory(step, device='cpu'):
    """Return how much memory a step holds at most, beyond what was held before.

    On the CPU these are the allocations of PyTorch's own allocator, as its profiler records them,
    temporary ones within an operation included; what oneDNN allocates for itself is not seen.

    Args:
        step (Callable[[], object]): Called once.
        device (str): Where it computes. Default: ``'cpu'``.

    Returns:
        int: Bytes.
    """
    if torch.device(device).type == 'cuda':
        _wait(device)
        held = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        _wait(device)
        return torch.cuda.max_memory_allocated(device) - held
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'trace.json')
        recorded.export_chrome_trace(path)
        with open(path) as file:
            events = json.load(file)['traceEvents']
    changes = [event for event in events if event['name'] == '[memory]']
    return _peak([event['args'] for event in sorted(changes, key=lambda event: event['ts'])])


def _peak(changes):
    """Return the most bytes that were held at once, of what was allocated in these changes."""
    live, held, peak = {}, 0, 0
    for change in changes:
        address, size = change['Addr'], change['Bytes']
        if size > 0:
            live[address] = size
            held += size
        else:
            held -= live.pop(address, 0)  # nothing for a block from before the profile
        peak = max(peak, held)
    return peak


def free_memory(device='cpu'):
    """Return the bytes of memory that are free on a device."""
    if torch.device(device).type == 'cuda':
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')


def quartiles(values):
    """Return the lower quartile, the median and the upper quartile of at least one number."""
    if len(values) == 1:
        return [values[0]] * 3
    return statistics.quantiles(values, n=4, method='inclusive')


def steps(comparisons, repeats):
    """Return how many steps the measurement of comparisons takes at most: rounds and two more."""
    return (repeats + 2) * sum(len(each.cases) for each in comparisons)


def measure(comparisons, setting, repeats, progress=lambda case: None):
    """Measure comparisons one after the other.

    Args:
        comparisons (Sequence[Comparison]): What to measure.
        setting (Setting): Where and how.
        repeats (int): Rounds.
        progress (Callable[[str], None]): See :func:`compare`.

    Returns:
        list[Table]: As of :func:`compare`, with the lines of :func:`describe` below each.
    """
    facts = describe(setting, repeats)
    tables = [compare(each, setting, repeats, progress) for each in comparisons]
    return [each._replace(facts=(*each.facts, *facts)) for each in tables]


def selected(comparisons, cases):
    """Return the comparisons with only some of their cases.

    Args:
        comparisons (Sequence[Comparison]): As a suite gives them.
        cases (Sequence[str]): Names of cases.

    Returns:
        list[Comparison]: Those in which a case is left.

    Raises:
        ValueError: A name is that of no case.
    """
    names = list(dict.fromkeys(case.name for each in comparisons for case in each.cases))
    unknown = [name for name in cases if name not in names]
    if unknown:
        raise ValueError(f'cases must be among {", ".join(names)}, got {unknown[0]!r}')
    chosen = [
        each._replace(
            cases=tuple(case for case in each.cases if case.name in cases),
            against=tuple(name for name in each.against if name in cases),
        )
        for each in comparisons
    ]
    return [each for each in chosen if each.cases]


def compare(comparison, setting, repeats, progress=lambda case: None):
    """Measure the cases of a comparison.

    A case that cannot run, for want of memory or because its code refuses the setting, has the
    reason in the table in place of figures.

    Args:
        comparison (Comparison): What to measure.
        setting (Setting): Where and how.
        repeats (int): Rounds.
        progress (Callable[[str], None]): Called before each step with the name of its case,
            ``repeats + 2`` times a case that runs.

    Returns:
        Table: A row a case: ``seconds`` ``[low, median, high]`` (quartiles), ``ratios``, the same
        for each case of ``against`` by name, ``peak_bytes``, ``rounds``, the seconds of each, and
        ``error``.
    """
    rows = {case.name: _empty_row(case) for case in comparison.cases}
    steps = {}
    for case in comparison.cases:
        row = rows[case.name]
        try:
            _check_memory(case, setting.device)
            progress(case.name)
            step = case.prepare()
            step()  # warm up
            progress(case.name)
            row['peak_bytes'] = peak_memory(step, setting.device)
            steps[case.name] = step
        except (RuntimeError, MemoryError) as error:
            row['error'] = ' '.join(str(error).split())[:200]
    for _ in range(repeats):
        for name, step in steps.items():
            progress(name)
            rows[name]['rounds'].append(seconds(step, setting.device))
    for name in steps:
        _summarize(rows[name], {other: rows[other]['rounds'] for other in comparison.against})
    return _table(comparison, list(rows.values()))


def _empty_row(case):
    row = dict(case=case.name, seconds=None, ratios={}, peak_bytes=None, rounds=[], error=None)
    return {**row, **case.complexity._asdict()} if case.complexity else row


def _check_memory(case, device):
    free = free_memory(device)
    if case.needed_bytes > free:
        raise MemoryError(f'needs {gib(case.needed_bytes)} GiB, {gib(free)} GiB are free')


def _summarize(row, others):
    row['seconds'] = quartiles(row['rounds'])
    for other, rounds in others.items():
        if other != row['case'] and rounds:
            pairs = zip(row['rounds'], rounds, strict=True)
            row['ratios'][other] = quartiles([mine / theirs for mine, theirs in pairs])


def _table(comparison, rows):
    columns = [Column('case', 'case')]
    if any('parameters' in row for row in rows):
        columns += COMPLEXITY_COLUMNS
    columns.append(Column('seconds', 'time [ms]', lambda values: spread(values, 1000, 1)))
    columns += [
        Column('ratios', f'time / {name}', lambda ratios, name=name: _ratio(ratios, name))
        for name in comparison.against
    ]
    columns.append(Column('peak_bytes', 'peak memory [MiB]', mib))
    if any(row['error'] for row in rows):
        columns.append(Column('error', 'not measured'))
    return Table(comparison.title, tuple(columns), rows, comparison.facts)


def _ratio(ratios, name):
    return spread(ratios[name], 1, 3) if name in ratios else ''


def spread(values, scale, digits):
    """Show quartiles, scaled, as ``median (low–high)``."""
    low, median, high = (f'{scale * value:.{digits}f}' for value in values)
    return f'{median} ({low}–{high})'


def mib(value):
    """Show bytes in MiB."""
    return f'{value / 2**20:.1f}'


def gib(value):
    """Show bytes in GiB."""
    return f'{value / 2**30:.1f}'


def describe(setting, repeats):
    """Return the lines that belong below every table of measurements.

    Args:
        setting (Setting): Where and how it was measured.
        repeats (int): Rounds.

    Returns:
        tuple[str]: Machine and packages, settings, what the figures are.
    """
    if torch.device(setting.device).type == 'cuda':
        machine = torch.cuda.get_device_name(setting.device)
    else:
        machine = f'{_processor()}, {torch.get_num_threads()} threads'
    return (
        f'{machine}; PyTorch {torch.__version__}; {setting.dtype}'
        f'{" by autocast" if setting.dtype != "float32" else ""}, {setting.memory_format}.',
        f'Medians of {repeats} rounds in which the cases take turns, quartiles in brackets; '
        'a ratio is that of two times of one round. Peak memory is beyond weights and inputs.',
    )


def _processor():
    try:
        with open('/proc/cpuinfo') as file:
            names = [line.split(':')[1].strip() for line in file if line.startswith('model name')]
    except OSError:
        names = []
    return names[0] if names else platform.machine()

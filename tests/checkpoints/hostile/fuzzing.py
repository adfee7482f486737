"""Mutated files, how each went, and whether that is as it must be."""

import json
import os
import pickle
import random
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from typing import NamedTuple

from mmseg_ctx.checkpoints.stand_ins import STAND_INS
from tests.checkpoints.hostile import seeds
from tests.checkpoints.hostile.mutations import (
    insert_deep_key,
    mutate_bytes,
    mutate_pickle,
    operations,
)
from tests.checkpoints.hostile.victim import CONFIG
from tests.checkpoints.test_convert_ctnet import small_arrays, small_config
from tests.helpers import ROOT

BATCH = 50

# Only by asking for one of these may a file load with the plugin and not without. PyTorch's message
# leaves out ``builtins.``.
OURS = {name.removeprefix('builtins.') for name in STAND_INS} | {
    'getattr',
    'mmengine.logging.history_buffer.HistoryBuffer',
}

# Outcomes that no file may have; where PyTorch alone has the same, it is PyTorch's.
BAD = ('crashed', 'hung', 'memory', 'ran', 'unexpected')


class Case(NamedTuple):
    """A mutated file: what it was made from, the way of loading it, its bytes."""

    family: str
    loader: str
    content: bytes


class Victim:
    """A process that loads files in children of its own, see ``victim.py``.

    Args:
        kind (str): ``'plugin'``, or ``'plain'`` for PyTorch alone.
        folder (Path): Where it runs.
        valid (list[Path]): Files that it loads to begin with.
    """

    def __init__(self, kind, folder, valid):
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'tests.checkpoints.hostile.victim', kind, *map(str, valid)],
            cwd=folder,
            env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline() == 'ready\n'

    def load(self, cases):
        """Return outcome and reason of each case, a pair of a loader's name and a path."""
        paths = [[loader, str(path)] for loader, path in cases]
        self.process.stdin.write(json.dumps(paths) + '\n')
        self.process.stdin.flush()
        return [json.loads(self.process.stdout.readline()) for _ in cases]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Mutants:
    """Valid files, and mutants of them by number."""

    def __init__(self, seed):
        self.seed = seed
        self.pickles, self.container = seeds.zip_pickles()
        self.legacy = seeds.legacy()
        self.paddle = seeds.paddle_pickles()
        self.ctnet = pickle.dumps(small_arrays(50, jpu=True), 4)

    def valid(self):
        """Return a valid file of each family, by its name."""
        zips = {
            f'zip-{i}': seeds.with_pickle(self.container, p) for i, p in enumerate(self.pickles)
        }
        paddle = {f'paddle-{i}': data for i, data in enumerate(self.paddle)}
        return {**zips, **paddle, 'legacy': self.legacy, 'ctnet': self.ctnet}

    def case(self, number):
        """Return the mutant of a number: the same for the same seed."""
        rng = random.Random(f'{self.seed}-{number}')
        families = {'zip': 45, 'container': 7, 'legacy': 7, 'paddle': 40, 'ctnet': 1}
        (family,) = rng.choices(list(families), families.values())
        loaders = ['paddle', 'paddle', 'paddle', 'ctnet']
        if family in ('zip', 'container', 'legacy'):
            loaders = ['torch', 'torch', 'checkpoint', 'cac']
        loader = 'ctnet' if family == 'ctnet' else rng.choice(loaders)
        return Case(family, loader, getattr(self, f'_{family}')(rng))

    def _zip(self, rng):
        data = mutate_pickle(rng, rng.choice(self.pickles), self.pickles + self.paddle)
        return seeds.with_pickle(self.container, data)

    def _container(self, rng):
        return mutate_bytes(rng, self.container)

    def _legacy(self, rng):
        # A magic number, a version and what the machine was like come first.
        parts, rest = [], self.legacy
        for _ in range(3):
            operations_, rest = operations(rest)
            parts += operations_
        if rng.random() < 0.2:
            return mutate_bytes(rng, self.legacy)
        return b''.join(parts) + mutate_pickle(rng, rest, self.pickles)

    def _paddle(self, rng):
        if rng.random() < 0.01:
            return insert_deep_key(rng, rng.choice(self.paddle))
        return mutate_pickle(rng, rng.choice(self.paddle), self.pickles + self.paddle)

    def _ctnet(self, rng):
        return mutate_pickle(rng, self.ctnet, self.paddle)


@contextmanager
def victims(folder, mutants):
    """Give two processes that load files: one with the plugin, one with PyTorch alone.

    Args:
        folder (Path): Where they run.
        mutants (Mutants): Whose valid files they load to begin with.
    """
    small_config(50, jpu=True).dump(folder / CONFIG)
    valid = []
    for name, content in mutants.valid().items():
        valid.append(folder / f'valid-{name}')
        valid[-1].write_bytes(content)
    with Victim('plugin', folder, valid) as plugin, Victim('plain', folder, valid) as plain:
        yield plugin, plain


def fuzz(folder, mutants, plugin, plain, numbers, seconds=float('inf')):
    """Load mutants, and tell how they went.

    Args:
        folder (Path): For the files. Those of the failures stay there.
        mutants (Mutants): The files.
        plugin (Victim): With the plugin.
        plain (Victim): With PyTorch alone.
        numbers (Sequence[int]): Of the mutants.
        seconds (float): After which no more batches are begun. Default: no limit.

    Returns:
        tuple[Counter, list[str]]: The number of outcomes by family, loader and outcome, and a line
        for each failure.
    """
    outcomes, failures = Counter(), []
    end = time.monotonic() + seconds
    for start in range(0, len(numbers), BATCH):
        if time.monotonic() > end:
            break
        batch = {}
        for number in numbers[start : start + BATCH]:
            path = folder / f'{mutants.seed}-{number}'
            case = mutants.case(number)
            path.write_bytes(case.content)
            batch[path] = case
        judged = _judge(batch, plugin, plain)
        for (path, case), (outcome, reason) in zip(batch.items(), judged, strict=True):
            outcomes[case.family, case.loader, outcome] += 1
            if outcome in (*BAD, 'weaker'):
                failures.append(f'{path} ({case.loader}): {outcome}: {reason}')
            else:
                path.unlink()
    return outcomes, failures


def _judge(batch, plugin, plain):
    """Return outcome and reason of each file, compared with PyTorch alone where it matters."""
    outcomes = plugin.load([(case.loader, path) for path, case in batch.items()])
    compared = [
        (path, i)
        for i, (path, case) in enumerate(batch.items())
        if case.family in ('zip', 'container', 'legacy')
        and (outcomes[i][0] in BAD or (outcomes[i][0] == 'loaded' and case.loader == 'torch'))
    ]
    alone = plain.load([('torch', path) for path, _ in compared])
    for (_, i), (outcome, reason) in zip(compared, alone, strict=True):
        if outcomes[i][0] == outcome and outcome in BAD:
            outcomes[i] = f'{outcome} as PyTorch alone', reason
        elif outcomes[i][0] == 'loaded' and outcome == 'refused' and not _asks_for_ours(reason):
            outcomes[i] = 'weaker', f'PyTorch alone refuses it: {reason}'
    return outcomes


def _asks_for_ours(reason):
    return 'Unsupported global: GLOBAL' in reason and reason.split('GLOBAL ')[1].split()[0] in OURS

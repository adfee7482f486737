"""Load thousands of mutated checkpoints: each loads or is refused with an error."""

import json
import os
import pickle
import random
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager

from tests.checkpoints.hostile import seeds
from tests.checkpoints.hostile.mutations import (
    insert_deep_key,
    mutate_bytes,
    mutate_pickle,
    operations,
)
from tests.helpers import ROOT

BATCH = 50

# Outcomes that no file may have; where PyTorch alone has the same, it is PyTorch's.
BAD = ('crashed', 'hung', 'memory', 'ran', 'unexpected')

# The ways of loading a file, by what it was made from. Arrays of CTNet take long to read.
LOADERS = {
    'zip': ['torch', 'torch', 'checkpoint', 'cac'],
    'container': ['torch', 'checkpoint'],
    'legacy': ['torch', 'checkpoint'],
    'paddle': ['paddle', 'paddle', 'paddle', 'ctnet'],
    'ctnet': ['ctnet'],
}


class Mutants:
    """Valid files, and mutants of them by number.

    Args:
        seed (int): Of the mutations.
    """

    def __init__(self, seed):
        self.seed = seed
        self.pickles, self.container = seeds.zip_pickles()
        self.legacy = seeds.legacy()
        self.paddle = seeds.paddle_pickles()
        self.ctnet = pickle.dumps(seeds.ctnet_arrays(), 4)

    def valid(self):
        """Return valid files of each family, by names that begin with the family's."""
        zips = [seeds.with_pickle(self.container, data) for data in self.pickles]
        files = {'zip': zips, 'paddle': self.paddle, 'legacy': [self.legacy], 'ctnet': [self.ctnet]}
        return {f'{name}-{i}': each[i] for name, each in files.items() for i in range(len(each))}

    def case(self, number):
        """Return family, loader and content of a mutant: the same for the same seed."""
        rng = random.Random(f'{self.seed}-{number}')
        (family,) = rng.choices(list(LOADERS), (45, 7, 7, 40, 1))
        return family, rng.choice(LOADERS[family]), getattr(self, f'_{family}')(rng)

    def _zip(self, rng):
        data = mutate_pickle(rng, rng.choice(self.pickles), self.pickles + self.paddle)
        return seeds.with_pickle(self.container, data)

    def _container(self, rng):
        return mutate_bytes(rng, self.container)

    def _legacy(self, rng):
        if rng.random() < 0.2:
            return mutate_bytes(rng, self.legacy)
        # A magic number, a version and what the machine was like come first.
        parts, rest = [], self.legacy
        for _ in range(3):
            pickled, rest = operations(rest)
            parts += pickled
        return b''.join(parts) + mutate_pickle(rng, rest, self.pickles)

    def _paddle(self, rng):
        if rng.random() < 0.01:
            return insert_deep_key(rng, rng.choice(self.paddle))
        return mutate_pickle(rng, rng.choice(self.paddle), self.pickles + self.paddle)

    def _ctnet(self, rng):
        return mutate_pickle(rng, self.ctnet, self.paddle)


@contextmanager
def victim(folder, mutants):
    """Start ``victim.py`` in a folder.

    Yields:
        Callable: Returns outcome and reason for each pair of a loader's name and a path.
    """
    valid = [folder / f'valid-{name}' for name in mutants.valid()]
    for path, content in zip(valid, mutants.valid().values(), strict=True):
        path.write_bytes(content)
    process = subprocess.Popen(
        [sys.executable, '-m', 'tests.checkpoints.hostile.victim', *valid],
        cwd=folder,
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def load(cases):
        process.stdin.write(json.dumps([[loader, str(path)] for loader, path in cases]) + '\n')
        process.stdin.flush()
        return [json.loads(process.stdout.readline()) for _ in cases]

    with process:
        while process.stdout.readline() != 'ready\n':
            assert process.poll() is None
        yield load
        process.stdin.close()


def fuzz(folder, mutants, load, numbers, seconds=float('inf')):
    """Load mutants, and tell how they went.

    Args:
        folder (Path): For the files. Those of the failures stay there.
        mutants (Mutants): The files.
        load (Callable): As :func:`victim` yields it.
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
        batch = {folder / str(n): mutants.case(n) for n in numbers[start : start + BATCH]}
        for path, (_, _, content) in batch.items():
            path.write_bytes(content)
        results = load([(loader, path) for path, (_, loader, _) in batch.items()])
        for (path, (family, loader, _)), (outcome, reason) in zip(
            batch.items(), results, strict=True
        ):
            if outcome in BAD and LOADERS[family][0] == 'torch':
                ((alone, _),) = load([('torch alone', path)])
                outcome += ' as PyTorch alone' if alone == outcome else ''
            outcomes[family, loader, outcome] += 1
            if outcome in BAD:
                failures.append(f'{path} ({loader}): {outcome}: {reason}')
            else:
                path.unlink()
    return outcomes, failures

"""Load thousands of mutated checkpoints: each loads or is refused with an error."""

import json
import pickle
import random
import signal
import time
from collections import Counter

from tests.checkpoints.hostile import mutations, seeds
from tests.checkpoints.hostile.victim import load_all
from tests.helpers import run_in_process

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
    """Valid files, and mutants of them by number, the same ones for the same seed."""

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
        data = mutations.mutate_pickle(rng, rng.choice(self.pickles), self.pickles + self.paddle)
        return seeds.with_pickle(self.container, data)

    def _container(self, rng):
        return mutations.mutate_bytes(rng, self.container)

    def _legacy(self, rng):
        if rng.random() < 0.2:
            return mutations.mutate_bytes(rng, self.legacy)
        # A magic number, a version and what the machine was like come first.
        parts, rest = [], self.legacy
        for _ in range(3):
            pickled, rest = mutations.operations(rest)
            parts += pickled
        return b''.join(parts) + mutations.mutate_pickle(rng, rest, self.pickles)

    def _paddle(self, rng):
        if rng.random() < 0.01:
            return mutations.insert_deep_key(rng, rng.choice(self.paddle))
        return mutations.mutate_pickle(rng, rng.choice(self.paddle), self.pickles + self.paddle)

    def _ctnet(self, rng):
        return mutations.mutate_pickle(rng, self.ctnet, self.paddle)


def load(cases, folder):
    """Load files in child processes; return outcome and reason for each loader's name and path."""
    outcomes = []
    while rest := cases[len(outcomes) :]:
        log = folder / 'log'
        log.touch()
        status = run_in_process(load_all, rest, log, folder, path=folder / 'end')
        outcomes += map(json.loads, log.read_text().splitlines())
        log.unlink()
        if status:  # a child that dies takes the file that it was at with it
            kind = 'hung' if -status in (signal.SIGALRM, signal.SIGPROF) else 'crashed'
            outcomes.append([kind, f'status {status}'])
    return outcomes


def fuzz(folder, mutants, numbers, seconds=float('inf')):
    """Load mutants of these numbers until some seconds are over, and tell how they went.

    Returns a counter by family, loader and outcome, and a line for each failure, whose file stays
    in the folder.
    """
    outcomes, failures = Counter(), []
    end = time.monotonic() + seconds
    for start in range(0, len(numbers), BATCH):
        if time.monotonic() > end:
            break
        batch = {folder / str(n): mutants.case(n) for n in numbers[start : start + BATCH]}
        for path, (_, _, content) in batch.items():
            path.write_bytes(content)
        results = load([(loader, path) for path, (_, loader, _) in batch.items()], folder)
        for (path, (family, loader, _)), (outcome, reason) in zip(
            batch.items(), results, strict=True
        ):
            if outcome in BAD and LOADERS[family][0] == 'torch':
                ((alone, _),) = load([('torch alone', path)], folder)
                outcome += ' as PyTorch alone' if alone == outcome else ''
            outcomes[family, loader, outcome] += 1
            if outcome in BAD:
                failures.append(f'{path} ({loader}): {outcome}: {reason}')
            else:
                path.unlink()
    return outcomes, failures

"""Load mutated checkpoints for some minutes; the exit status is 1 if one does harm."""

import argparse
import shutil
import tempfile
from pathlib import Path

from tests.checkpoints.hostile import Mutants, fuzz


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seed', type=int, default=0, help='of the mutations')
    parser.add_argument('--minutes', type=float, default=10, help='how long to go on')
    parser.add_argument('--first', type=int, default=0, help='number of the first mutant')
    options = parser.parse_args()
    numbers = range(options.first, options.first + 10**9)
    folder = Path(tempfile.mkdtemp(prefix='hostile-'))
    outcomes, failures = fuzz(folder, Mutants(options.seed), numbers, 60 * options.minutes)
    for (family, loader, outcome), count in sorted(outcomes.items()):
        print(f'{family:<10} {loader:<11} {outcome:<26} {count:>7}')
    print(f'{sum(outcomes.values())} files, {len(failures)} failures')
    print(*failures, sep='\n')
    if failures:
        raise SystemExit(1)
    shutil.rmtree(folder)


if __name__ == '__main__':  # child processes import this module, too
    main()

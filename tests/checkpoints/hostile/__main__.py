"""Load thousands of mutated checkpoints: each loads or is refused with an error."""

import argparse
import shutil
import tempfile
from pathlib import Path

from tests.checkpoints.hostile.fuzzing import Mutants, fuzz, victims


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seed', type=int, default=0, help='of the mutations')
    parser.add_argument('--minutes', type=float, default=10, help='how long to go on')
    parser.add_argument('--first', type=int, default=0, help='number of the first mutant')
    parser.add_argument('--count', type=int, help='a number of mutants in the place of minutes')
    options = parser.parse_args()
    numbers = range(options.first, options.first + (options.count or 10**9))
    seconds = 60 * options.minutes if options.count is None else float('inf')
    folder = Path(tempfile.mkdtemp(prefix='hostile-'))
    mutants = Mutants(options.seed)
    with victims(folder, mutants) as (plugin, plain):
        outcomes, failures = fuzz(folder, mutants, plugin, plain, numbers, seconds)
    for (family, loader, outcome), count in sorted(outcomes.items()):
        print(f'{family:<10} {loader:<11} {outcome:<26} {count:>7}')
    print(f'{sum(outcomes.values())} files, {len(failures)} failures')
    for failure in failures:
        print(failure)
    if not failures:
        shutil.rmtree(folder)
    return bool(failures)


if __name__ == '__main__':
    raise SystemExit(main())

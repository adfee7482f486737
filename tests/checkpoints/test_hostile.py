"""Thousands of mutated files, of which `make test-hostile` loads many more."""

from collections import Counter

import pytest

from tests.checkpoints.hostile import Mutants, fuzz, load


@pytest.fixture(scope='module')
def mutants():
    return Mutants(seed=0)


@pytest.mark.slow
def test_mutated_files_load_or_are_refused(mutants, tmp_path):
    outcomes, failures = fuzz(tmp_path, mutants, range(400))
    assert failures == []
    assert outcomes.total() == 400
    ways = Counter()
    for (_, loader, outcome), count in outcomes.items():
        ways[loader, outcome.split()[0]] += count
    # The mutations are neither harmless nor so coarse that nothing behind the first byte is read.
    for loader in ('torch', 'checkpoint', 'paddle'):
        assert ways[loader, 'loaded'] > 2
        assert ways[loader, 'refused'] > 20


def test_the_valid_files_load(mutants, tmp_path):
    loaders = {'zip': 'checkpoint', 'legacy': 'torch', 'paddle': 'paddle', 'ctnet': 'ctnet'}
    cases = []
    for name, content in mutants.valid().items():
        path = tmp_path / name
        path.write_bytes(content)
        cases.append((loaders[name.split('-')[0]], path))
    assert load(cases, tmp_path) == [['loaded', '']] * len(cases)

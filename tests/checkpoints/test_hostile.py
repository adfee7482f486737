"""Thousands of mutated files, of which `make test-hostile` loads many more."""

import pickle
from collections import Counter

import pytest

from tests.checkpoints.hostile.fuzzing import Mutants, fuzz, victims
from tests.checkpoints.hostile.mutations import DEEP_KEY


@pytest.fixture(scope='module')
def mutants():
    return Mutants(seed=0)


@pytest.fixture(scope='module')
def processes(mutants, tmp_path_factory):
    with victims(tmp_path_factory.mktemp('victims'), mutants) as processes:
        yield processes


def test_mutated_files_load_or_are_refused(mutants, processes, tmp_path):
    outcomes, failures = fuzz(tmp_path, mutants, *processes, range(400))
    assert failures == []
    families, ways = Counter(), Counter()
    for (family, loader, outcome), count in outcomes.items():
        families[family] += count
        ways[loader, outcome.split()[0]] += count
    assert families.total() == 400
    assert min(families[family] for family in ('zip', 'container', 'legacy', 'paddle')) > 10
    # The mutations are neither harmless nor so coarse that nothing behind the first byte is read.
    for loader in ('torch', 'checkpoint', 'paddle'):
        assert ways[loader, 'loaded'] > 2
        assert ways[loader, 'refused'] > 20


def test_the_valid_files_load(mutants, processes, tmp_path):
    loaders = {'zip': 'torch', 'legacy': 'torch', 'paddle': 'paddle', 'ctnet': 'ctnet'}
    cases = []
    for name, content in mutants.valid().items():
        path = tmp_path / name
        path.write_bytes(content)
        cases.append((loaders[name.split('-')[0]], path))
    plugin, _ = processes
    assert [outcome for outcome, _ in plugin.load(cases)] == ['loaded'] * len(cases)


FAULTS = {
    'loaded': pickle.dumps({'a': 1}),
    'refused': b'\x80\x02}',
    'ran': b'\x80\x02cposix\nsystem\nX\x0c\x00\x00\x00touch canary\x85R.',
    'crashed': b'\x80\x02' + DEEP_KEY + b'.',
    'memory': b'\x80\x02Nr\x00\x00\x00\x06.',
}


@pytest.mark.parametrize('fault', FAULTS)
def test_every_fault_is_seen(fault, processes, tmp_path):
    """With Python's own unpickler."""
    path = tmp_path / 'a.pkl'
    path.write_bytes(FAULTS[fault])
    _, plain = processes
    ((outcome, _),) = plain.load([('pickle', path)])
    assert outcome == fault

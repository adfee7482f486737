"""Tests that take a ``device`` run on the CPU, and on CUDA where there is one, or there alone."""

import os
import re
import subprocess
import sys

from tests.helpers import ROOT

WITH_CUDA = 'import torch; torch.cuda.is_available = lambda: True; '
COLLECT = ['--collect-only', 'tests/ops/test_labels.py']


def pytest_of(*arguments, prepare=''):
    """Run pytest in a process of its own, which sees no CUDA device."""
    code = f'{prepare}import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))'
    return subprocess.run(
        [sys.executable, '-c', code, *arguments],
        cwd=ROOT,
        env={**os.environ, 'CUDA_VISIBLE_DEVICES': ''},
        capture_output=True,
        text=True,
    )


def test_cuda_alone_fails_in_one_line_without_a_device():
    done = pytest_of('--cuda', *COLLECT)
    assert done.returncode != 0
    assert 'ERROR: --cuda needs a CUDA device, and PyTorch finds none here' in done.stderr
    assert '::' not in done.stdout


def test_cuda_alone_runs_what_takes_a_device_there():
    done = pytest_of('--cuda', *COLLECT, prepare=WITH_CUDA)
    collected = re.findall(r'::(\w+)\[(cuda|cpu)-', done.stdout)
    assert set(collected) == {('test_resizes_to_the_pixel_below', 'cuda')}
    assert re.search(r'5/\d+ tests collected \(\d+ deselected\)', done.stdout)


def test_otherwise_it_runs_on_both():
    done = pytest_of(*COLLECT, prepare=WITH_CUDA)
    devices = re.findall(r'::test_resizes_to_the_pixel_below\[(cuda|cpu)-', done.stdout)
    assert sorted(devices) == ['cpu'] * 5 + ['cuda'] * 5
    assert 'test_accepts_classes' in done.stdout

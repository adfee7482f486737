"""The Triton kernels without a GPU: compiled for GPUs, and run by Triton's interpreter.

``python -m tests.ops.test_triton`` records the registers of each kernel in ``tests/data``.
"""

import csv
import itertools
import os
import re
import subprocess
import sys
import tempfile
from unittest import mock

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmseg_ctx.ops import kernel_choice, spatial_weights
from tests.helpers import DATA, ROOT

triton = pytest.importorskip('triton')

RECORDED = DATA / 'kernels.tsv'
OF_WEIGHTS = dict(SIZE=3, DILATIONS=(1, 2, 3))
OF_LOSSES = dict(ROWS=8, COLUMNS=32, WEIGHTED=False)
VARIANTS = {
    'losses': ('_losses_kernel', OF_LOSSES | dict(REDUCED=True)),
    'losses of pixels': ('_losses_kernel', OF_LOSSES | dict(REDUCED=False)),
    'reduction': ('_reduction_kernel', dict(COUNTED=True, BLOCK=2048)),
    'gradient': ('_gradient_kernel', dict(REDUCED=True, WEIGHTED=True, CLASSES=32, GAPS=8)),
    'gradient, 2 classes': (
        '_gradient_kernel',
        dict(REDUCED=True, WEIGHTED=True, CLASSES=2, GAPS=32),
    ),
    'gradient of pixels': (
        '_gradient_kernel',
        dict(REDUCED=False, WEIGHTED=False, CLASSES=32, GAPS=8),
    ),
    'labels': ('_labels_kernel', dict(ONE_PASS=True, ROW_TAPS=2, COLUMN_TAPS=2)),
    'labels, resized twice': ('_labels_kernel', dict(ONE_PASS=True, ROW_TAPS=4, COLUMN_TAPS=4)),
    'labels of passes': ('_labels_kernel', dict(ONE_PASS=False, ROW_TAPS=4, COLUMN_TAPS=4)),
    'weights': ('_weights_kernel', OF_WEIGHTS | dict(PIXELS=512)),
    'gradients of weights': ('_weights_gradient_kernel', OF_WEIGHTS | dict(TAPS=16, PIXELS=128)),
}
CAPABILITIES, DTYPES = (80, 90, 120), ('fp32', 'bf16', 'fp16')
OF_LABELS = dict(ONE_CLASS=False, TILE_ROWS=4, TILE_COLUMNS=32)


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def interpreted(examples):
    file = 'tests/ops/triton_interpreter.py'
    done = run('-m', 'pytest', '-n0', file, TRITON_INTERPRET='1', EXAMPLES=str(examples))
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.slow
def test_kernels_equal_pytorch_in_the_interpreter():
    interpreted(3)


@pytest.mark.triton
def test_kernels_equal_pytorch_in_many_cases():
    interpreted(100)


def signature(kernel, dtype, constants):
    """Return the type of each argument of a kernel."""
    pointers = dict.fromkeys(['row_index', 'column_index'], '*i64')
    pointers |= dict.fromkeys(['label', 'best'], '*i64')
    of_losses = ['losses', 'log_normaliser', 'grad', 'class_weight', 'sums', 'scale', 'loss']
    pointers |= dict.fromkeys([*of_losses, 'accuracy'], '*fp32') | dict(valid='*i1')
    pointers |= dict.fromkeys(['divisor', 'epsilon', 'factor'], 'fp32')
    pointers |= dict.fromkeys(['row_weights', 'column_weights', 'kernels', 'slopes'], '*fp32')
    pointers |= dict.fromkeys(['kernel_gradient'], '*fp32') | dict(threshold='fp32')
    read = ['logits', 'gradient', 'x', 'weights', 'x_gradient']
    pointers |= dict.fromkeys(read, f'*{dtype}')
    wide = ('stride', 'grad_')
    return {
        name: 'constexpr'
        if name in constants
        else pointers.get(name, 'i64' if any(part in name for part in wide) else 'i32')
        for name in kernel.arg_names
    }


def usage(variant, capability, dtype):
    """Compile a kernel for a GPU; return the registers of a thread and the bytes it spills."""
    from triton import knobs
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from mmseg_ctx.ops import triton_kernels

    name, constants = VARIANTS[variant]
    if name == '_labels_kernel':
        constants = constants | OF_LABELS
    kernel = getattr(triton_kernels, name)
    source = ASTSource(
        fn=kernel, signature=signature(kernel, dtype, constants), constexprs=constants
    )
    warps = {'_losses_kernel': 1, '_gradient_kernel': 1, '_reduction_kernel': 8}
    options = dict(num_warps=warps.get(name, 4))
    compiled = triton.compile(source, target=GPUTarget('cuda', capability, 32), options=options)
    tools = knobs.nvidia.ptxas_blackwell if capability >= 100 else knobs.nvidia.ptxas
    target = re.search(r'\.target (\w+)', compiled.asm['ptx'])[1]
    with tempfile.NamedTemporaryFile('w', suffix='.ptx') as file:
        file.write(compiled.asm['ptx'])
        file.flush()
        command = [tools.path, '-v', f'--gpu-name={target}', file.name, '-o', os.devnull]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spilled = sum(map(int, re.findall(r'(\d+) bytes spill', report)))
    return int(re.search(r'Used (\d+) registers', report)[1]), spilled


def recorded():
    with RECORDED.open(newline='') as file:
        rows = csv.DictReader(file, delimiter='\t')
        return {(row['kernel'], int(row['sm']), row['type']): row for row in rows}


def record():
    """Write what this Triton's ptxas gives each kernel to ``RECORDED``."""
    with RECORDED.open('w', newline='') as file:
        rows = csv.writer(file, delimiter='\t', lineterminator='\n')
        rows.writerow(['kernel', 'sm', 'type', 'registers', 'spilled bytes'])
        for variant, capability, dtype in itertools.product(VARIANTS, CAPABILITIES, DTYPES):
            rows.writerow([variant, capability, dtype, *usage(variant, capability, dtype)])


def check_usage(capability, dtypes):
    table = recorded()
    for variant in VARIANTS:
        for dtype in dtypes:
            registers, spilled = usage(variant, capability, dtype)
            allowed = int(table[variant, capability, dtype]['registers'])
            assert spilled == 0, (variant, capability, dtype)
            assert registers <= allowed, (variant, capability, dtype, registers, allowed)


def test_kernels_compile_for_a_gpu_without_spilling():
    check_usage(90, ['fp32'])


@pytest.mark.triton
@pytest.mark.parametrize('capability', CAPABILITIES)
def test_kernels_compile_for_gpus_without_spilling(capability):
    check_usage(capability, DTYPES)


def test_the_package_does_not_import_triton():
    code = (
        "import sys; sys.modules['triton'] = None; import torch; from mmseg_ctx.ops import *; "
        'print(pixel_losses(torch.rand(1, 2, 3, 3), torch.ones(1, 4, 4).long())[0].shape); '
        "print('mmseg_ctx.ops.triton_kernels' in sys.modules)"
    )
    done = run('-c', code)
    assert done.stdout.splitlines() == ['torch.Size([1, 4, 4])', 'False'], done.stderr


class NothingOnMeta(TorchDispatchMode):
    """Refuses operations on tensors of the meta device, which stands for a GPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert not any(getattr(each, 'is_meta', False) for each in args), func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('compare', [kernel_choice._compare, spatial_weights._compare])
def test_the_first_use_compares_with_operations_of_the_cpu(compare):
    # On a GPU PyTorch refuses some in deterministic mode, and computes others in TF32.
    stop = mock.Mock(side_effect=InterruptedError)
    kernels = mock.Mock(pixel_losses=stop, spatial_weights=stop)
    with NothingOnMeta(), pytest.raises(InterruptedError):
        compare(kernels, torch.device('meta'), torch.float32)
    (x, *_), _ = stop.call_args
    assert x.is_meta


class OnCuda:
    """Looks like a tensor on a GPU as far as the choice of kernels reads it."""

    def __init__(self, dtype=torch.float32):
        self.device, self.dtype = torch.device('cuda', 0), dtype


class TestChoice:
    @pytest.fixture(autouse=True)
    def _fresh(self):
        kernel_choice._checked_kernels.cache_clear()
        with mock.patch.object(kernel_choice, '_PLAIN', (OnCuda,)):
            yield
        kernel_choice._checked_kernels.cache_clear()

    @pytest.fixture
    def log(self):
        with mock.patch.object(kernel_choice, 'print_log') as log:
            yield log

    def test_uses_kernels_whose_results_are_right(self, log):
        with mock.patch.object(kernel_choice, '_compare') as compare:
            kernels = [kernel_choice.triton_kernels_for(OnCuda()) for _ in range(3)]
        assert [each.__name__ for each in kernels] == ['mmseg_ctx.ops.triton_kernels'] * 3
        assert compare.call_count == 1
        assert not log.called

    @pytest.mark.parametrize('error', [AssertionError('off by 1\nmore'), RuntimeError('no driver')])
    def test_says_once_why_it_does_not_use_them(self, error, log):
        with mock.patch.object(kernel_choice, '_compare', side_effect=error):
            assert [kernel_choice.triton_kernels_for(OnCuda()) for _ in range(3)] == [None] * 3
        (message,) = (call.args[0] for call in log.call_args_list)
        assert str(error).split('\n')[0] in message
        assert 'more' not in message

    def test_does_not_use_wrong_results(self, log):
        # No device is needed: what computes zeros differs from PyTorch on the CPU, too.
        from mmseg_ctx.ops import triton_kernels

        wrong = torch.zeros(2, 9, 13)
        with (
            mock.patch.object(triton_kernels, 'pixel_losses', return_value=[wrong] * 3),
            mock.patch.object(triton_kernels, 'pixel_losses_backward', return_value=wrong),
            pytest.raises(AssertionError),
        ):
            kernel_choice._compare(triton_kernels, torch.device('cpu'), torch.float32)

    def test_can_be_switched_off(self, monkeypatch):
        monkeypatch.setenv('MMSEG_CTX_TRITON', '0')
        with mock.patch.object(kernel_choice, '_compare') as compare:
            assert kernel_choice.triton_kernels_for(OnCuda()) is None
        assert not compare.called

    def test_leaves_other_tensors_to_pytorch(self):
        with mock.patch.object(kernel_choice, '_compare'):
            assert kernel_choice.triton_kernels_for(OnCuda(torch.float64)) is None
            mixed = OnCuda(), OnCuda(torch.float16)
            assert kernel_choice.triton_kernels_for(*mixed) is None
        assert kernel_choice.triton_kernels_for(torch.rand(1)) is None


if __name__ == '__main__':
    record()

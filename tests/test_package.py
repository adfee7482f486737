import os
import shlex
import subprocess
import sys

import pytest
from mmseg.registry import MODELS

from mmseg_ctx.utils.stack import ONEDL, OPENMMLAB
from tests.helpers import ROOT, setup_arguments


def run_python(code, folder):
    """Run code in a fresh interpreter that imports from a folder first.

    Returns the exit status and the last line of errors, or else of the output.
    """
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(folder), str(ROOT)]))
    result = subprocess.run(
        [sys.executable, '-c', code], cwd=folder, env=env, capture_output=True, text=True
    )
    lines = (result.stderr if result.returncode else result.stdout).strip().splitlines()
    return result.returncode, lines[-1]


@pytest.mark.parametrize(
    ('mmseg', 'reason'),
    [
        # A module that cannot be imported stands for one that is not installed.
        ('raise ModuleNotFoundError("No module named \'mmseg\'")', "No module named 'mmseg'"),
        ('__version__ = "0.30.0"', 'found 0.30.0'),
        # What an old MMSegmentation says beside a new MMCV.
        ('raise AssertionError("MMCV==2.1.0 is incompatible")', 'MMCV==2.1.0 is incompatible'),
    ],
)
def test_without_a_stack_the_error_names_both_commands(mmseg, reason, tmp_path):
    (tmp_path / 'mmseg.py').write_text(mmseg)
    code, error = run_python('import mmseg_ctx', tmp_path)
    assert code == 1
    assert error.startswith('ImportError: mmseg_ctx needs MMSegmentation >= 1.0')
    assert reason in error
    onedl, openmmlab = error.split('`')[1::2]
    assert onedl.startswith("pip install torch 'onedl-mmcv>=")
    assert '--no-build-isolation' in openmmlab


@pytest.mark.parametrize(('extra', 'command'), [('onedl', ONEDL), ('openmmlab', OPENMMLAB)])
def test_the_commands_install_what_the_extras_name(extra, command):
    extras = setup_arguments()['extras_require']
    words = shlex.split(command)
    for requirement in extras[extra]:
        if requirement == 'opencv-python':  # MMCV brings it
            continue
        assert requirement in words
    # No package of a stack brings it.
    assert words[2].split('<')[0] == 'torch'
    assert 'mmseg-ctx' not in command


def test_nothing_of_mmsegmentation_is_overridden():
    ours = {name: cls for name, cls in MODELS.module_dict.items() if is_ours(cls)}
    assert 'DynamicMultiScaleHead' in ours
    assert not is_ours(MODELS.get('DMHead'))
    assert not is_ours(MODELS.get('JPU'))


def is_ours(cls):
    """Whether a class comes from the plugin."""
    return cls.__module__.split('.')[0] == 'mmseg_ctx'


IMPORT = """
import mmseg.models
from mmengine.runner import checkpoint
import os, sys, torch
before, environment = dict(vars(checkpoint)), dict(os.environ)
import mmseg_ctx
registered = [each[1] for each in torch.serialization.get_safe_globals() if type(each) is tuple]
fork = hasattr(checkpoint, 'get_torch_safe_globals')
assert not registered if fork else 'mmengine.logging.history_buffer.HistoryBuffer' in registered
assert (vars(checkpoint), os.environ) == (before, environment)
assert 'torch._dynamo' not in sys.modules
print('unchanged')
"""


def test_the_import_changes_neither_pytorch_nor_mmengine(tmp_path):
    """Except beside upstream MMEngine, which could not load its own checkpoints otherwise."""
    assert run_python(IMPORT, tmp_path) == (0, 'unchanged')

import os
import shlex
import subprocess
import sys

import pytest
from mmengine.config import Config
from mmseg.registry import MODELS

import mmseg_ctx
from mmseg_ctx.utils.stack import ONEDL, OPENMMLAB
from tests.helpers import ROOT, setup_arguments

CONFIG = 'dmnet/dmnet_r18-small_1xb16-600_context-scenes-128x128.py'


def run_python(code, folder, path=()):
    """Run code in a fresh interpreter, outside the checkout; return its last line of errors."""
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([*map(str, path), str(ROOT)]))
    result = subprocess.run(
        [sys.executable, '-c', code], cwd=folder, env=env, capture_output=True, text=True
    )
    return result.returncode, result.stderr.strip().splitlines()[-1:]


def test_without_a_stack_the_error_names_both_commands(tmp_path):
    # A module that cannot be imported stands for one that is not installed.
    (tmp_path / 'mmseg.py').write_text('raise ModuleNotFoundError("No module named \'mmseg\'")')
    code, (error,) = run_python('import mmseg_ctx', tmp_path, [tmp_path])
    assert code == 1
    assert error.startswith('ImportError: ')
    assert "No module named 'mmseg'" in error
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


def test_with_an_old_mmsegmentation_the_error_says_so(tmp_path):
    (tmp_path / 'mmseg.py').write_text('__version__ = "0.30.0"')
    code, (error,) = run_python('import mmseg_ctx', tmp_path, [tmp_path])
    assert code == 1
    assert error.startswith('ImportError: mmseg_ctx needs MMSegmentation >= 1.0, found 0.30.0.')


def test_an_old_mmsegmentation_beside_a_new_mmcv(tmp_path):
    (tmp_path / 'mmseg.py').write_text('raise AssertionError("MMCV==2.1.0 is incompatible")')
    code, (error,) = run_python('import mmseg_ctx', tmp_path, [tmp_path])
    assert code == 1
    assert error.startswith('ImportError: mmseg_ctx plugs into MMSegmentation, which cannot')
    assert 'MMCV==2.1.0 is incompatible' in error
    info = tmp_path / 'mmsegmentation-0.30.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: mmsegmentation\nVersion: 0.30.0\n')
    code, (error,) = run_python('import mmseg_ctx', tmp_path, [tmp_path])
    assert code == 1
    assert error.startswith('ImportError: mmseg_ctx needs MMSegmentation >= 1.0, found 0.30.0.')


def test_nothing_of_mmsegmentation_is_overridden():
    ours = {name: cls for name, cls in MODELS.module_dict.items() if is_ours(cls)}
    assert 'DynamicMultiScaleHead' in ours
    assert not is_ours(MODELS.get('DMHead'))
    assert not is_ours(MODELS.get('JPU'))


def is_ours(cls):
    """Whether a class comes from the plugin."""
    return cls.__module__.split('.')[0] == 'mmseg_ctx'


def test_config_path():
    path = mmseg_ctx.config_path(CONFIG)
    assert Config.fromfile(path).model.decode_head.type == 'DynamicMultiScaleHead'


@pytest.mark.parametrize('name', ['dmnet/dmnet_r18-smal.py', 'dmnet', '../setup.py', ''])
def test_config_path_of_an_unknown_name_lists_near_ones(name):
    with pytest.raises(FileNotFoundError, match='mmseg_ctx has no config') as error:
        mmseg_ctx.config_path(name)
    assert repr(name) in str(error.value)
    assert '.py' in str(error.value).split('similar names: ')[1]
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('name', 'near'),
    [
        (CONFIG.replace('small', 'smal'), CONFIG),
        (CONFIG.removesuffix('.py'), CONFIG),
        (CONFIG.removeprefix('dmnet/').upper(), CONFIG),
        (f'configs/{CONFIG}', CONFIG),
        (f'/home/me/mmseg-ctx/configs/{CONFIG}', CONFIG),
        ('context_scenes', '_base_/datasets/context_scenes.py'),
    ],
)
def test_near_names_are_near(name, near):
    with pytest.raises(FileNotFoundError) as error:
        mmseg_ctx.config_path(name)
    assert str(error.value).split('similar names: ')[1].startswith(near)


@pytest.mark.parametrize(
    'name', ['dmnet', 'DMNet', 'dmnt', 'dmnet/', 'dmnet.py', 'dmnet/dmnet_r50x', 'configs/dmnet']
)
def test_near_names_of_a_method_are_its_configs(name):
    with pytest.raises(FileNotFoundError) as error:
        mmseg_ctx.config_path(name)
    names = str(error.value).split('similar names: ')[1].split(', ')
    assert len(names) == 5
    assert all(near.startswith('dmnet/') for near in names)


def test_config_bases_of_the_package(tmp_path):
    config = tmp_path / 'mine.py'
    config.write_text(f"_base_ = 'mmseg_ctx::{CONFIG}'\nmodel = dict(decode_head=dict(channels=8))")
    assert Config.fromfile(config).model.decode_head.channels == 8

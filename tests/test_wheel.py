"""What a user gets: the plugin from a built wheel, in an environment and a folder of their own."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile

import pytest

from tests.helpers import ROOT

CONFIG = 'dmnet/dmnet_r18-small_1xb16-600_context-scenes-128x128.py'
SMALL = dict(
    train_cfg=dict(max_iters=2, val_interval=2),
    train_dataloader=dict(batch_size=2, num_workers=0, persistent_workers=False),
    val_dataloader=dict(num_workers=0, persistent_workers=False, dataset=dict(num_images=2)),
)


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp('wheel')
    source = folder / 'source'
    unwanted = shutil.ignore_patterns('.venv*', '.git', 'work_dirs', 'build', '*.egg-info')
    shutil.copytree(ROOT, source, symlinks=True, ignore=unwanted)
    build = [sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--no-build-isolation']
    subprocess.run([*build, '-q', '-w', folder, source], check=True)
    return next(folder.glob('*.whl'))


@pytest.fixture(scope='module')
def project(wheel, tmp_path_factory):
    """A folder whose environment has the wheel and sees the stack of the one that runs this."""
    folder = tmp_path_factory.mktemp('project')
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', folder / 'venv'], check=True)
    python = folder / 'venv/bin/python'
    site = run(folder, '-c', 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
    # A path in a .pth file is searched last, and the .pth files in it, such as the one that an
    # editable install leaves, are not read.
    with open(f'{site}/stack.pth', 'w') as file:
        file.write(sysconfig.get_paths()['purelib'])
    pip = [sys.executable, '-m', 'pip', '--python', python]
    subprocess.run([*pip, 'install', '-q', '--no-deps', '--no-index', wheel], check=True)
    return folder


def run(project, *command):
    """Run the project's Python in its folder; return the last line that it printed."""
    env = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    env['PATH'] = f'{project / "venv/bin"}{os.pathsep}{env["PATH"]}'
    result = subprocess.run(
        [project / 'venv/bin/python', *command],
        cwd=project,
        env=env,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.strip().splitlines()[-1]


def test_configs_and_index_lie_in_the_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {path.relative_to(ROOT).as_posix() for path in (ROOT / 'configs').rglob('*.py')}
    assert len(configs) > 10
    assert {f'mmseg_ctx/.mim/{name}' for name in configs} <= names
    assert 'mmseg_ctx/.mim/model-index.yml' in names
    assert not [name for name in names if name.startswith(('tests/', 'tools/', 'configs/'))]


def test_the_package_is_that_of_the_wheel(project):
    place = run(project, '-c', 'import mmseg_ctx; print(mmseg_ctx.__file__)')
    assert place.startswith(str(project / 'venv'))


def test_package_bases_and_config_path_in_python(project):
    (project / 'by_package.py').write_text(f"_base_ = 'mmseg_ctx::{CONFIG}'\n")
    code = (
        'import mmseg_ctx; from mmengine.config import Config;'
        'print(Config.fromfile("by_package.py").model.decode_head.type,'
        f'      Config.fromfile(mmseg_ctx.config_path("{CONFIG}")).model.decode_head.type)'
    )
    assert run(project, '-c', code) == 'DynamicMultiScaleHead DynamicMultiScaleHead'


def test_installed_path_bases_under_mim(project):
    # Nothing has imported the plugin when mim's training script reads the bases.
    installed = "__import__('mmengine').utils.get_installed_path('mmseg_ctx')"
    base = f"{installed} + '/.mim/configs/{CONFIG}'"
    settings = '\n'.join(f'{name} = {value!r}' for name, value in SMALL.items())
    (project / 'by_path.py').write_text(f'_base_ = {base}\n{settings}\n')
    command = ['-m', 'mim', 'train', 'mmseg', 'by_path.py', '--gpus', '0', '--work-dir', 'out']
    run(project, *command)
    assert (project / 'out/iter_2.pth').is_file()
    command = ['-m', 'mim', 'test', 'mmseg', 'by_path.py', '--gpus', '0', '--work-dir', 'out']
    run(project, *command, '--checkpoint', 'out/iter_2.pth')
    results = list((project / 'out').glob('*/*.json'))
    assert any('mIoU_context' in path.read_text() for path in results)

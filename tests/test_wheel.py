"""What a user gets: the plugin from a built wheel, in an environment and a folder of their own."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import zipfile

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from tests.configs.training import load_lightly, schedule
from tests.helpers import ROOT

pytestmark = pytest.mark.slow
PAGES = '\n'.join(
    (ROOT / name).read_text()
    for name in ('README.md', 'docs/get_started.md', 'docs/your_own_data.md', 'docs/memory.md')
)
# The pages' Python files: each block whose first line is the file's name.
BLOCKS = re.findall(r'^```python\n# (\S+\.py)\n(.*?)^```', PAGES, re.MULTILINE | re.DOTALL)
EXAMPLES = dict(BLOCKS)
CONFIG = 'dmnet/dmnet_r18-small_1xb16-600_context-scenes-128x128.py'


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


def run(project, *command, **variables):
    """Run the project's Python in its folder; return the last line that it printed."""
    env = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    env['PATH'] = f'{project / "venv/bin"}{os.pathsep}{env["PATH"]}'
    result = subprocess.run(
        [project / 'venv/bin/python', *command],
        cwd=project,
        env=env | variables,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.strip().splitlines()[-1]


@pytest.fixture(scope='module')
def examples(project):
    """The project with the files that the pages show, and the data set that it describes."""
    for name, code in EXAMPLES.items():
        (project / name).write_text(code)
    for name in ('train/0', 'train/1', 'val/0'):
        write_image_and_label(project / 'data/mine', name)
    return project


def write_image_and_label(folder, name):
    cells = np.random.default_rng(0).permutation(12).reshape(3, 4) % 4
    label = cells.astype(np.uint8).repeat(16, axis=0).repeat(16, axis=1)
    label[0] = 255
    image = Image.fromarray(60 * label).convert('RGB')
    label = Image.fromarray(label)
    if name.endswith('0'):  # with a palette, which a reader has to leave alone
        label.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 90, 90, 90])
    for part, picture, suffix in (('images', image, 'jpg'), ('labels', label, 'png')):
        path = folder / part / f'{name}.{suffix}'
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)


def mim_train(project, config, options=None, **variables):
    """Train the config for two iterations, and leave the checkpoint where the pages have it."""
    options = schedule(2) | load_lightly() | (options or {})
    options = [f'{name}={value}'.replace(' ', '') for name, value in options.items()]
    command = ['-m', 'mim', 'train', 'mmseg', config, '--gpus', '0', '--cfg-options', *options]
    run(project, *command, **variables)
    folder = project / 'work_dirs' / config.removesuffix('.py')
    (folder / 'iter_2.pth').rename(folder / 'iter_160000.pth')
    return folder


def test_configs_and_index_lie_in_the_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {path.relative_to(ROOT).as_posix() for path in (ROOT / 'configs').rglob('*.py')}
    assert len(configs) > 10
    assert {f'mmseg_ctx/.mim/{name}' for name in configs} <= names
    assert 'mmseg_ctx/.mim/model-index.yml' in names
    assert not [name for name in names if name.startswith(('tests/', 'tools/', 'configs/'))]


def test_bases_and_paths_of_the_package_of_the_wheel(project):
    (project / 'by_package.py').write_text(f"_base_ = 'mmseg_ctx::{CONFIG}'\n")
    code = (
        'import mmseg_ctx; from mmengine.config import Config;'
        'print(Config.fromfile("by_package.py").model.decode_head.type,'
        f'      mmseg_ctx.config_path("{CONFIG}"))'
    )
    head, path = run(project, '-c', code).split()
    assert head == 'DynamicMultiScaleHead'
    assert path.startswith(str(project / 'venv'))


def test_mim_lists_the_models(project):
    code = (
        'from mim.commands.search import get_model_info;'
        'print(*get_model_info("mmseg_ctx", to_dict=True))'
    )
    names = set(run(project, '-c', code).split())
    for path in (ROOT / 'configs').glob('*/metafile.yml'):
        models = yaml.safe_load(path.read_text())['Models']
        assert {model['Name'] for model in models} <= names


def test_own_data_set_of_four_classes_and_inference(examples):
    small = {
        'model.pretrained': None,
        'model.backbone.depth': 18,
        'model.backbone.base_channels': 8,
        'model.backbone.stem_channels': 8,
        'model.decode_head.in_channels': (8, 16, 64),
        'model.decode_head.block_channels': (16, 12, 8),
    }
    folder = mim_train(examples, 'my_acnet.py', small)
    assert reports_four_classes(folder)
    save = 'import numpy; numpy.save("label.npy", result.pred_sem_seg.data[0].numpy())'
    meta = 'print("\\n" + " ".join(model.dataset_meta["classes"]))'
    classes = run(examples, '-c', '\n'.join([EXAMPLES['segment.py'], save, meta]))
    assert classes == 'ground road roof tree'
    label = np.load(examples / 'label.npy')
    assert label.shape == (48, 64)
    assert label.max() < 4
    written = cv2.imread(str(examples / 'segmented/pred/00000000_pred.png'), 0)
    np.testing.assert_array_equal(written, label)
    image = cv2.imread(str(examples / 'data/mine/images/val/0.jpg'))
    drawn = cv2.imread(str(examples / 'segmented/vis/0.jpg'))
    assert drawn.shape == image.shape
    assert (drawn != image).any()


def reports_four_classes(folder):
    """Whether the log of a training or test in the folder has the table of the four classes."""
    logs = [path.read_text() for path in folder.glob('*/*.log')]
    rows = [rf'\| +{name} +\| ' for name in ('ground', 'road', 'roof', 'tree')]
    return any(all(re.search(row, log) for row in [*rows, r' mIoU: \d']) for log in logs)


def test_own_backbone_with_context_aware_classifier_by_the_commands_shown(examples):
    block = re.search(r'^```bash\n(export PYTHONPATH.*?)^```', PAGES, re.MULTILINE | re.DOTALL)
    export, train, test = (shlex.split(line) for line in block[1].splitlines())
    variables = dict([export[1].split('=')])
    assert train[:3] == ['mim', 'train', 'mmseg']
    folder = mim_train(examples, *train[3:], **variables)
    test += ['--gpus', '0', '--work-dir', 'tested', '--cfg-options']
    test += ['test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False']
    run(examples, '-m', *test, **variables)
    assert reports_four_classes(examples / 'tested')
    log = next(folder.glob('*/*.log')).read_text()
    assert ' decode.loss_kl: ' in log
    assert 'MyBackbone' in log

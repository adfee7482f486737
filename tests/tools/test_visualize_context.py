"""The command line of the context's sheets; what they show is tested with the package."""

import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmseg_ctx.datasets.scenes import render_scene
from mmseg_ctx.visualization.files import item_readers
from tests.helpers import ROOT, exit_status
from tests.models import write_model
from tools.visualize_context import main

run_tool = partial(exit_status, main)


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    return write_model('ACNet', tmp_path_factory.mktemp('model'))


@pytest.fixture
def files(tmp_path):
    image, label = render_scene(1, 1, 48, 64)
    paths = tmp_path / 'street.png', tmp_path / 'label.png'
    for path, array in zip(paths, (image, label), strict=True):
        Image.fromarray(array).save(path)
    return paths


def test_sheets(model, files, tmp_path, capsys):
    out = tmp_path / 'new' / 'folder'
    assert run_tool(*model, files[0], 'test:2', '--out', out) == 0
    printed = capsys.readouterr()
    assert '2/2' in printed.err
    assert printed.out.split() == [str(out / 'street.png'), str(out / 'test-2.png')]
    assert sorted(out.iterdir()) == [out / 'street.png', out / 'test-2.png']
    for path in out.iterdir():
        assert Image.open(path).size[0] == 1440
    before = (out / 'street.png').read_bytes()
    assert run_tool(*model, files[0], '--out', out) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f'error: {out / "street.png"} exists; --force overwrites it'
    # With the ground truth there is another picture.
    assert run_tool(*model, files[0], '--labels', files[1], '--out', out, '--force') == 0
    assert (out / 'street.png').read_bytes() != before
    capsys.readouterr()
    # Not even with --force: it is for sheets.
    assert run_tool(*model, files[0], '--out', tmp_path, '--force') == 2
    assert 'street.png is read and would be overwritten' in capsys.readouterr().err
    image = (out / 'street.png').rename(out / 'label.png')
    labels = ('--labels', files[1], '--out', tmp_path, '--force')
    assert run_tool(*model, image, *labels) == 2
    assert f'{files[1]} is read and would be overwritten' in capsys.readouterr().err
    (out / 'test-0.png').mkdir()
    assert run_tool('missing.py', 'missing.pth', 'test:0', '--out', out, '--force') == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f'error: {out / "test-0.png"} is a folder; name a file'


def test_items(model, files):
    config = Config.fromfile(model[0])
    image, label = (np.array(Image.open(path)) for path in files)
    (read,) = item_readers(config, [str(files[0])], [str(files[1])])
    item = read()
    np.testing.assert_array_equal(item['inputs'].numpy().transpose(1, 2, 0)[..., ::-1], image)
    np.testing.assert_array_equal(item['data_samples'].gt_sem_seg.data[0].numpy(), label)
    (read,) = item_readers(config, [str(files[0])])
    assert 'gt_sem_seg' not in read()['data_samples']
    (read,) = item_readers(config, ['test:1'])
    image, label = render_scene(1, 1, 40, 64)
    np.testing.assert_array_equal(read()['data_samples'].gt_sem_seg.data[0].numpy(), label)


def test_items_of_a_data_set_without_its_files(files, tmp_path):
    # As ADE20K's: labels count from one, a pipeline resizes, and nothing of it lies on the disk.
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(128, 96), keep_ratio=True),
        dict(type='LoadAnnotations', reduce_zero_label=True),
        dict(type='PackSegInputs'),
    ]
    dataset = dict(type='ADE20KDataset', data_root=str(tmp_path / 'absent'), pipeline=pipeline)
    config = Config(dict(test_dataloader=dict(dataset=dataset)))
    (read,) = item_readers(config, [str(files[0])], [str(files[1])])
    item = read()
    assert item['inputs'].shape == (3, 96, 128)
    label = np.array(Image.open(files[1])).astype(int)
    expected = np.where((label == 0) | (label == 255), 255, label - 1)
    np.testing.assert_array_equal(item['data_samples'].gt_sem_seg.data[0].numpy(), expected)


def test_help_has_an_example(capsys):
    assert run_tool('--help') == 0
    assert 'python tools/visualize_context.py CONFIG CHECKPOINT' in capsys.readouterr().out


def test_wrong_input_is_one_line_with_status_2(model, files, tmp_path, capsys):
    config, checkpoint = model
    image, label = files
    twin = tmp_path / 'twin' / image.name
    twin.parent.mkdir()
    twin.hardlink_to(image)
    out = '--out', tmp_path / 'out'
    cut, small = tmp_path / 'cut.png', tmp_path / 'small.png'
    cut.write_bytes(image.read_bytes()[:200])
    Image.new('L', (8, 8)).save(small)
    strange = tmp_path / 'strange.png'
    Image.new('L', (64, 48), 77).save(strange)
    untested = '--cfg-options', 'test_dataloader=None'
    broken = tmp_path / 'broken.py'
    broken.write_text('model = dict(')
    cases = [
        ((config, checkpoint, image), '--out'),
        ((config, checkpoint, *out), 'IMAGE'),
        ((config, checkpoint, 'absent.jpg', *out), 'absent.jpg is neither a file nor test:N'),
        ((config, checkpoint, config, *out), 'config.py is not an image'),
        ((config, checkpoint, 'test:3', *out), "must be test:0 to test:2, got 'test:3'"),
        ((config, checkpoint, 'test:x', *out), "got 'test:x'"),
        ((config, checkpoint, image, '--labels', label, label, *out), 'of the 1 images, got 2'),
        ((config, checkpoint, image, '--labels', 'no.png', *out), 'no.png is neither a file'),
        ((config, checkpoint, image, twin, *out), 'images must differ in their names'),
        ((config, checkpoint, image, '--device', 'tpu', *out), "got 'tpu'"),
        ((config, tmp_path / 'no.pth', image, *out), 'no.pth'),
        ((broken, checkpoint, image, *out), 'broken.py cannot be read as a config: SyntaxError'),
        ((config, checkpoint, cut, *out), 'cut.png cannot be read: '),
        ((config, checkpoint, image, '--labels', cut, *out), 'cut.png cannot be read: '),
        ((config, checkpoint, image, *untested, *out), 'has no test_dataloader.dataset'),
        ((config, checkpoint, image, '--labels', small, *out), 'must be of the size of the image'),
        ((config, checkpoint, image, '--labels', strange, *out), '0 to 13, or 255 where it'),
        (
            (config, checkpoint, 'test:1', '--labels', label, *out),
            'labels must be for image files, but test:1 is',
        ),
        ((config, checkpoint, image, '--out', label), 'label.png is not a folder'),
        ((config, checkpoint, image, '--out', label / 'new'), 'label.png is not a folder'),
    ]
    for arguments, message in cases:
        assert run_tool(*arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith('error: ')
        assert message in line
    assert not (tmp_path / 'out').exists()


def test_the_line_stands_alone_in_a_process_of_its_own(files, tmp_path):
    config, checkpoint = write_model('CTNet', tmp_path)
    with open(config, 'a') as file:
        file.write("custom_imports = dict(imports=['tests.models'])\n")
    image, label = files
    Image.new('L', (8, 8)).save(label)
    options = '--labels', label, '--out', tmp_path / 'out'
    result = subprocess.run(
        [sys.executable, 'tools/visualize_context.py', config, checkpoint, image, *options],
        cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    message = 'error: the label must be of the size of the image, (48, 64), got (8, 8)\n'
    assert result.stderr == message
    assert result.stdout == ''


def test_head_without_context(tmp_path):
    config, checkpoint = write_model('FCN', tmp_path)
    assert run_tool(config, checkpoint, 'test:0', '--out', tmp_path / 'out') == 0
    assert np.std(Image.open(tmp_path / 'out' / 'test-0.png')) > 10

"""The comparison of predictions: what it prints and draws, and what it refuses."""

import numpy as np
import pytest
from PIL import Image

from mmseg_ctx.datasets.scenes import render_scene
from tests.helpers import ROOT, exit_status, full_disk
from tools.compare_predictions import main

COUNT = 3


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'config.py'
    base = ROOT / 'configs/fcn/fcn_r18-small_1xb16-600_context-scenes-128x128.py'
    path.write_text(
        f'_base_ = {str(base)!r}\n'
        f'test_dataloader = dict(dataset=dict(num_images={COUNT}, image_size=64))\n'
    )
    return path


@pytest.fixture
def folders(tmp_path):
    """Predictions of a model that is always right and of one that sees water everywhere."""
    for name in ('right', 'water'):
        (tmp_path / name).mkdir()
        for index in range(COUNT):
            label = render_scene(1, index, 64, 64)[1]
            label = np.where(label == 255, 0, label) if name == 'right' else np.ones_like(label)
            path = tmp_path / name / f'context_scene_1_{index:06d}_64x64.png'
            Image.fromarray(label.astype(np.uint8)).save(path)
    return [f'{name}={tmp_path / name}' for name in ('right', 'water')]


def test_it_prints_the_mean_ious_and_draws_a_sheet(config, folders, tmp_path, capsys):
    out = tmp_path / 'sheet.png'
    options = ('--predictions', *folders, '--out', out, '--scenes', 2)
    assert exit_status(main, config, *options) == 0
    printed = capsys.readouterr().out
    lines = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if line}
    assert lines['model'] == ['all', 'classes', 'context', 'relative', 'thin']
    assert lines['right'] == ['100.0'] * 4
    labels = np.stack([render_scene(1, index, 64, 64)[1] for index in range(COUNT)])
    water = 100 * (labels == 1).sum() / (labels != 255).sum()
    present = np.setdiff1d(np.unique(labels), [255])
    assert lines['water'][0] == f'{water / len(present):.1f}'
    assert lines['water'][2:] == ['0.0', '0.0']
    assert str(out) in printed
    assert Image.open(out).size[0] > 800
    assert exit_status(main, config, *options) == 2
    assert '--force' in capsys.readouterr().err
    assert exit_status(main, config, *options, '--force') == 0


@pytest.mark.parametrize(
    ('predictions', 'message'),
    [
        (['FCN'], "NAME=FOLDER with a folder that exists, got 'FCN'"),
        (['FCN=/nowhere'], "got 'FCN=/nowhere'"),
        (['=.'], "got '=.'"),
        (['FCN=.'], 'context_scene_1_000000_64x64.png'),
        (['FCN=.', 'DMNet=..', 'FCN=..'], "names must differ, got 'FCN' more than once"),
    ],
)
def test_wrong_predictions_are_one_line_with_status_2(config, predictions, message, capsys):
    out = config.parent / 'sheet.png'
    assert exit_status(main, config, '--predictions', *predictions, '--out', out) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('error: ')
    assert message in line
    assert not out.exists()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ('broken = (', 'cannot be read as a config: SyntaxError'),
        ('test_dataloader = None', 'has no test_dataloader.dataset'),
        ('test_evaluator = None', 'has no test_evaluator'),
        ("test_evaluator = dict(_delete_=True, type='Unknown')", 'evaluator of'),
        (
            "test_dataloader = dict(dataset=dict(_delete_=True, type='ADE20KDataset', "
            "data_root='absent', pipeline=[]))",
            'cannot be read: ',
        ),
    ],
)
def test_a_config_that_does_not_do_is_one_line(change, message, folders, tmp_path, capsys):
    path = tmp_path / 'mine.py'
    path.write_text(f"_base_ = './config.py'\n{change}\n")
    (tmp_path / 'config.py').write_text(
        f'_base_ = {str(ROOT / "configs/fcn/fcn_r18-small_1xb16-600_context-scenes-128x128.py")!r}'
    )
    out = tmp_path / 'sheet.png'
    assert exit_status(main, path, '--predictions', *folders, '--out', out) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('error: ')
    assert message in line
    assert not out.exists()


def test_a_prediction_that_does_not_do_is_named(config, folders, tmp_path, capsys):
    path = tmp_path / 'water/context_scene_1_000001_64x64.png'
    options = ('--predictions', *folders, '--out', tmp_path / 'sheet.png')
    whole = path.read_bytes()
    for content, message in ((whole[:60], 'cannot be read'), (b'noise', 'cannot be read')):
        path.write_bytes(content)
        assert exit_status(main, config, *options) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f'error: {path} {message}: ')
    Image.new('L', (64, 63)).save(path)
    assert exit_status(main, config, *options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f'error: {path} must be a label map of shape (64, 64), got (63, 64)'


def test_the_file_is_refused_before_anything_is_read(folders, tmp_path, capsys):
    out = tmp_path / 'sheet.png'
    out.write_text('mine')
    absent = tmp_path / 'absent.py'
    assert exit_status(main, absent, '--predictions', *folders, '--out', out) == 2
    assert capsys.readouterr().err == f'error: {out} exists; --force overwrites it\n'
    assert exit_status(main, absent, '--predictions', *folders, '--out', tmp_path / 'a.xyz') == 2
    assert '--out: must end in one of ' in capsys.readouterr().err
    (prediction, *_) = (tmp_path / 'right').iterdir()
    command = (absent, '--predictions', *folders, '--out', prediction, '--force')
    assert exit_status(main, *command) == 2
    assert f'{prediction} is read and would be overwritten' in capsys.readouterr().err


def test_the_table_is_there_where_the_picture_fails(config, folders, tmp_path, capsys):
    out = tmp_path / 'sheet.png'
    with full_disk(20_000):
        assert exit_status(main, config, '--predictions', *folders, '--out', out) == 2
    captured = capsys.readouterr()
    assert captured.err == f'error: {out}: File too large\n'
    assert 'water' in captured.out
    assert not out.exists()


def test_help_has_an_example(capsys):
    assert exit_status(main, '--help') == 0
    assert 'python tools/compare_predictions.py CONFIG' in capsys.readouterr().out

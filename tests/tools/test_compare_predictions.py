"""The comparison of predictions: what it prints and draws, and what it refuses."""

import numpy as np
import pytest
from PIL import Image

from mmseg_ctx.commandline import run
from mmseg_ctx.datasets.scenes import render_scene
from tests.helpers import ROOT
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


def _run(*arguments):
    with pytest.raises(SystemExit) as end:
        run(main, list(map(str, arguments)))
    return end.value.code or 0


def test_it_prints_the_mean_ious_and_draws_a_sheet(config, folders, tmp_path, capsys):
    out = tmp_path / 'sheet.png'
    options = ('--predictions', *folders, '--out', out, '--scenes', 2)
    assert _run(config, *options) == 0
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
    assert _run(config, *options) == 2
    assert '--force' in capsys.readouterr().err
    assert _run(config, *options, '--force') == 0


@pytest.mark.parametrize(
    ('predictions', 'message'),
    [
        (['FCN'], "NAME=FOLDER with a folder that exists, got 'FCN'"),
        (['FCN=/nowhere'], "got 'FCN=/nowhere'"),
        (['=.'], "got '=.'"),
        (['FCN=.'], 'context_scene_1_000000_64x64.png'),
    ],
)
def test_wrong_predictions_are_one_line_with_status_2(config, predictions, message, capsys):
    out = config.parent / 'sheet.png'
    assert _run(config, '--predictions', *predictions, '--out', out) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith('error: ')
    assert message in last
    assert not out.exists()


def test_help_has_an_example(capsys):
    assert _run('--help') == 0
    assert 'python tools/compare_predictions.py CONFIG' in capsys.readouterr().out

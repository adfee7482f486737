"""The comparison of predictions: what it prints and draws, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmseg_ctx.datasets.scenes import render_scene
from mmseg_ctx.visualization import comparison
from tests.helpers import ROOT, error_line, exit_status
from tools.compare_predictions import main

COUNT = 5
CONFIG = ROOT / 'configs/fcn/fcn_r18-small_1xb16-600_context-scenes-128x128.py'
WATER = 1


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(
        f'_base_ = {str(CONFIG)!r}\n'
        f'test_dataloader = dict(dataset=dict(num_images={COUNT}, image_size=64))\n'
    )
    return path


@pytest.fixture
def folders(tmp_path):
    """Predictions of a model that is always right, and of one that sees more and more water."""
    for name in ('right', 'water'):
        (tmp_path / name).mkdir()
        for index in range(COUNT):
            label = render_scene(1, index, 64, 64)[1]
            label[label == 255] = 0
            if name == 'water':
                label[: 12 * (index + 1)] = WATER
            path = tmp_path / name / f'context_scene_1_{index:06d}_64x64.png'
            Image.fromarray(label.astype(np.uint8)).save(path)
    return [f'{name}={tmp_path / name}' for name in ('right', 'water')]


@pytest.fixture
def drawn(monkeypatch):
    """The images that were drawn, by number."""
    images = {render_scene(1, index, 64, 64)[0].tobytes(): index for index in range(COUNT)}
    found, draw_rows = [], comparison.draw_rows

    def draw(rows, *arguments):
        found.extend(images[np.ascontiguousarray(image).tobytes()] for image, *_ in rows)
        return draw_rows(rows, *arguments)

    monkeypatch.setattr(comparison, 'draw_rows', draw)
    return found


def test_it_prints_the_mean_ious_and_draws_a_sheet(config, folders, tmp_path, capsys):
    out = tmp_path / 'sheet.png'
    options = ('--predictions', *folders, '--out', out)
    assert exit_status(main, config, *options) == 0
    printed = capsys.readouterr().out
    rows = [line.strip('|').split('|') for line in printed.splitlines() if '|' in line]
    lines = {name.strip(): [each.strip() for each in numbers] for name, *numbers in rows}
    assert lines['model'] == ['all classes', 'context', 'relative', 'thin']
    assert lines['right'] == ['100.0'] * 4
    truth = np.stack([render_scene(1, index, 64, 64)[1] for index in range(COUNT)])
    seen = truth.copy()
    for index in range(COUNT):
        seen[index, : 12 * (index + 1)] = WATER
    seen[truth == 255] = 255
    ious = [
        ((seen == index) & (truth == index)).sum() / ((seen == index) | (truth == index)).sum()
        for index in np.setdiff1d(np.union1d(seen, truth), [255])
    ]
    assert lines['water'][0] == f'{100 * np.mean(ious):.1f}'
    assert str(out) in printed
    assert Image.open(out).size[0] > 800
    assert '--force' in error_line(capsys, main, config, *options)
    assert exit_status(main, config, *options, '--force') == 0


@pytest.mark.parametrize(
    ('options', 'images'),
    [(['--images', 3], [0, 2, 4]), (['--images', 2, '--choose', 'differ'], [4, 3])],
)
def test_images_are_spread_or_those_where_models_differ(options, images, config, folders, drawn):
    out = config.parent / 'sheet.png'
    assert exit_status(main, config, '--predictions', *folders, '--out', out, *options) == 0
    assert drawn == images


@pytest.mark.parametrize(
    ('predictions', 'message'),
    [
        (['FCN'], "NAME=FOLDER with a folder that exists, got 'FCN'"),
        (['FCN=/nowhere'], "got 'FCN=/nowhere'"),
        (['FCN=.', 'DMNet=..', 'FCN=..'], "names must differ, got 'FCN' more than once"),
        (['FCN=.', '--choose', 'differ'], 'only several models can differ, got FCN alone'),
    ],
)
def test_wrong_options_are_one_line(predictions, message, config, capsys):
    out = config.parent / 'sheet.png'
    line = error_line(capsys, main, config, '--predictions', *predictions, '--out', out)
    assert message in line
    assert not out.exists()


def test_a_prediction_that_does_not_do_is_named_with_its_model(config, folders, capsys):
    path = Path(folders[1].partition('=')[2]) / 'context_scene_1_000001_64x64.png'
    options = '--predictions', *folders, '--out', config.parent / 'sheet.png'
    path.write_bytes(path.read_bytes()[:60])
    line = error_line(capsys, main, config, *options)
    assert f'prediction of water, {path}, cannot be read' in line
    Image.new('L', (64, 63)).save(path)
    line = error_line(capsys, main, config, *options)
    assert f'prediction of water, {path}, must be' in line
    assert '(64, 64), got (63, 64)' in line
    path.unlink()
    line = error_line(capsys, main, config, *options)
    assert 'water has no prediction for ' in line
    assert f'{path} is missing' in line

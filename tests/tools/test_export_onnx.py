"""The command line of the export; what it exports is tested with the package's function."""

import onnx
import pytest
import torch

from tests.helpers import error_line, exit_status
from tests.small_models import build_segmentor, write_model
from tools.export_onnx import main


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    return write_model('CTNet', tmp_path_factory.mktemp('model'))


def test_export(model, tmp_path, capsys):
    out = tmp_path / 'model.onnx'
    out.write_text('of yesterday')
    command = (*model, out, '--shape', 32, 40, '--dynamic', '--opset', 20, '--labels')
    assert f'{out} exists; --force' in error_line(capsys, main, *command)
    assert out.read_text() == 'of yesterday'
    command = (*command, '--force')
    line = error_line(capsys, main, *model, model[1], *command[3:])
    assert f'{model[1]} is read and would be overwritten' in line
    assert exit_status(main, *command) == 0
    lines = capsys.readouterr().out.splitlines()
    shapes = [f'{batch}x3x{size}' for batch in (1, 2) for size in ('32x40', '25x40', '19x26')]
    assert [line.split(':')[0] for line in lines] == shapes
    assert all('same label on 100.000% of the pixels' in line for line in lines)
    graph = onnx.load(out).graph
    assert (graph.input[0].name, graph.output[0].name) == ('image', 'labels')
    assert list(tmp_path.iterdir()) == [out]


def test_wrong_input_is_one_line_with_status_2(model, tmp_path, capsys):
    config, checkpoint = model
    noise = tmp_path / 'noise.pth'
    noise.write_bytes(b'noise')
    other = tmp_path / 'other.pth'
    torch.save(dict(state_dict=build_segmentor('DMNet').state_dict()), other)
    out = tmp_path / 'model.onnx'
    empty = tmp_path / 'empty.py'
    empty.write_text('a = 1')
    cases = [
        (config, checkpoint, -4, "--shape: must be an integer >= 1, got '-4'"),
        (config, noise, 32, 'noise.pth is no checkpoint'),
        (empty, checkpoint, 32, 'empty.py has no model'),
        (config, other, 32, f'other.pth does not fit {config}: it lacks decode_head.'),
    ]
    for *files, side, message in cases:
        assert message in error_line(capsys, main, *files, out, '--shape', 32, side)
    assert not out.exists()

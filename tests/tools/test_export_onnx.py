"""The command line of the export; what it exports is tested with the package's function."""

import os
import subprocess
import sys
from functools import partial

import onnx
import pytest
import torch

from tests.helpers import ROOT, exit_status
from tests.models import build_segmentor, write_model
from tools.export_onnx import main

run_tool = partial(exit_status, main)


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    return write_model('CTNet', tmp_path_factory.mktemp('model'))


def test_export(model, tmp_path, capsys):
    out = tmp_path / 'model.onnx'
    out.write_text('of yesterday')
    command = (*model, out, '--shape', 32, 40, '--dynamic', '--opset', 20)
    assert run_tool(*command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f'error: {out} exists; --force overwrites it'
    assert out.read_text() == 'of yesterday'
    assert run_tool(*model, model[1], '--shape', 32, 40, '--force') == 2
    assert f'{model[1]} is read and would be overwritten' in capsys.readouterr().err
    assert run_tool(*command, '--force') == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(':')[0] for line in lines[::2]] == ['1x3x32x40', '1x3x25x40', '1x3x19x26']
    assert [line.split(':')[0] for line in lines[1::2]] == ['2x3x32x40', '2x3x25x40', '2x3x19x26']
    assert all('same label on 100.000% of the pixels' in line for line in lines)
    assert onnx.load(out).graph.input[0].name == 'image'
    assert list(tmp_path.iterdir()) == [out]


def test_help_has_an_example(capsys):
    assert run_tool('--help') == 0
    assert 'python tools/export_onnx.py configs/' in capsys.readouterr().out


def test_wrong_input_is_one_line_with_status_2(model, tmp_path, capsys):
    config, checkpoint = model
    noise = tmp_path / 'noise.pth'
    noise.write_bytes(b'noise')
    other = tmp_path / 'other.pth'
    torch.save(dict(state_dict=build_segmentor('DMNet').state_dict()), other)
    out = tmp_path / 'model.onnx'
    empty, unknown = tmp_path / 'empty.py', tmp_path / 'unknown.py'
    empty.write_text('a = 1')
    unknown.write_text("model = dict(type='Unknown')")
    cases = [
        ((config, checkpoint, out), '--shape'),
        ((config, checkpoint, out, '--shape', 'a', 2), "must be an integer >= 1, got 'a'"),
        (
            (config, checkpoint, out, '--shape', 32, -4),
            "--shape: must be an integer >= 1, got '-4'",
        ),
        (
            (config, checkpoint, out, '--shape', 32, 40, '--opset', 0),
            '--opset: must be an integer >= 1',
        ),
        ((config, checkpoint, tmp_path / 'no/model.onnx', '--shape', 32, 40), 'is not a folder'),
        ((config, tmp_path / 'no.pth', out, '--shape', 32, 40), 'no.pth: No such file'),
        ((config, noise, out, '--shape', 32, 40), 'noise.pth is no checkpoint'),
        ((tmp_path / 'no.py', checkpoint, out, '--shape', 32, 40), 'no.py'),
        ((noise, checkpoint, out, '--shape', 32, 40), 'noise.pth cannot be read as a config'),
        ((empty, checkpoint, out, '--shape', 32, 40), 'empty.py has no model'),
        ((unknown, checkpoint, out, '--shape', 32, 40), 'the model of '),
        (
            (config, other, out, '--shape', 32, 40),
            f'other.pth does not fit {config}: it lacks decode_head.channel_context.',
        ),
    ]
    for arguments, message in cases:
        assert run_tool(*arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith('error: ')
        assert message in line
    assert not out.exists()


def test_the_line_stands_alone_in_a_process_of_its_own(tmp_path):
    config, checkpoint = write_model('CTNet', tmp_path)
    with open(config, 'a') as file:
        file.write("custom_imports = dict(imports=['tests.models'])\n")
    out = tmp_path / 'model.onnx'
    out.write_text('mine')
    result = subprocess.run(
        [sys.executable, 'tools/export_onnx.py', config, checkpoint, out, '--shape', '32', '40'],
        cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert result.stderr == f'error: {out} exists; --force overwrites it\n'
    assert result.stdout == ''


def test_settings_on_the_command_line(model, tmp_path, capsys):
    options = '--shape', 32, 40, '--cfg-options', 'model.decode_head.key_channels=3'
    assert run_tool(*model, tmp_path / 'model.onnx', *options) == 2
    assert 'of another shape decode_head.spatial_context.' in capsys.readouterr().err

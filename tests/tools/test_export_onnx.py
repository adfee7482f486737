"""The command line of the export; what it exports is tested with the package's function."""

import onnx
import pytest
import torch

from mmseg_ctx.commandline import run
from tests.segmentors import build_segmentor, write_model
from tools.export_onnx import main


def run_tool(*arguments):
    with pytest.raises(SystemExit) as end:
        run(main, list(map(str, arguments)))
    return end.value.code or 0


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
        ((noise, checkpoint, out, '--shape', 32, 40), 'noise.pth is not the config of a model'),
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


def test_settings_on_the_command_line(model, tmp_path, capsys):
    options = '--shape', 32, 40, '--cfg-options', 'model.decode_head.key_channels=3'
    assert run_tool(*model, tmp_path / 'model.onnx', *options) == 2
    assert 'of another shape decode_head.spatial_context.' in capsys.readouterr().err

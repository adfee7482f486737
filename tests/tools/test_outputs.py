"""What tools do with an output that cannot be written, and with wrong input."""

import importlib
import os

import pytest

from tests.helpers import ROOT, error_line, exit_status

CONFIG = ROOT / 'configs/fcn/fcn_r18-small_1xb16-600_context-scenes-128x128.py'
# What each tool reads is missing, so an error about it would mean that the work had begun.
TOOLS = {
    'benchmark': ('heads', '--sizes', 8, '--cases', 'missing', '--out', '{out}.md'),
    'benchmark_gpu': ('--tiny', '--device', 'cpu', '--out', '{out}.md'),
    'compare_predictions': ('missing.py', '--predictions', 'A=.', '--out', '{out}.png'),
    'complexity': ('--out', '{out}.md'),
    'convert_checkpoint': ('ctnet', 'missing.pdparams', '{out}.pth'),
    'export_onnx': ('missing.py', 'missing.pth', '{out}.onnx', '--shape', 32, 32),
    'new_config': ('missing', '--out', '{out}.py'),
    'study': ('--configs', 'missing.py', '--out', '{out}'),
    'visualize_context': ('missing.py', 'missing.pth', 'missing.png', '--out', '{out}'),
}


def main_of(tool):
    return importlib.import_module(f'tools.{tool}').main


def test_no_tool_is_left_out():
    tools = {path.stem for path in (ROOT / 'tools').glob('*.py')}
    assert tools - {'explore', 'check_dataset'} == TOOLS.keys()  # these write no file


@pytest.mark.parametrize('tool', TOOLS)
@pytest.mark.parametrize('place', ['/proc/out', '{folder}/file/out'])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    tool, place, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').write_text('')
    out = place.format(folder=tmp_path)
    arguments = [str(argument).format(out=out) for argument in TOOLS[tool]]
    (asked_for,) = (argument for argument in arguments if argument.startswith(out))
    assert exit_status(main_of(tool), *arguments) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f'error: {asked_for}')
    assert (out, err.count('\n')) == ('', 1)
    assert os.listdir(tmp_path) == ['file']


@pytest.mark.parametrize(
    ('tool', 'arguments', 'message'),
    [
        ('benchmark', ['unknown'], "'heads', "),
        ('benchmark', ['heads', '--repeats', '0'], "--repeats: must be an integer >= 1, got '0'"),
        ('benchmark', ['ctnet-linear', '--cases', 'NonLocal'], "NonLocal2d, got 'NonLocal'"),
        ('complexity', ['both'], "papers, heads, got 'both'"),
        ('complexity', ['heads', '--memory', 'a.py'], "no TABLE, got 'heads'"),
        ('complexity', ['--memory', 'absent.py'], 'absent.py is not a file'),
        ('study', ['--rows', 'fnc'], 'must be among fcn, cacnet'),
        ('study', ['--suite', 'scenes'], 'must be among camvid, context-scenes, dmnet-voc12'),
        ('study', ['--configs', 'absent.py'], "no config 'absent.py'; similar names: "),
    ],
)
def test_wrong_input_is_one_line_with_status_2(
    tool, arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert message in error_line(capsys, main_of(tool), *arguments)
    assert os.listdir(tmp_path) == []

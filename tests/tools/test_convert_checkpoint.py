import pickle

import pytest
import torch

from tests.checkpoints.test_convert_ctnet import small_arrays, small_config
from tests.helpers import error_line, exit_status
from tools.convert_checkpoint import main


@pytest.fixture
def source(tmp_path):
    path = tmp_path / 'model.pdparams'
    path.write_bytes(pickle.dumps(small_arrays(), 2))
    small_config().dump(tmp_path / 'config.py')
    return path


def test_converts_ctnet(source, tmp_path, capsys):
    destination = tmp_path / 'model.pth'
    arguments = ('ctnet', source, destination, '--config', tmp_path / 'config.py')
    assert exit_status(main, *arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert 'head.cls_head.weight -> decode_head.conv_seg.weight' in lines
    assert lines[-3:] == ['renamed: 399 of 399 names', 'missing: none', 'left over: none']
    assert 'decode_head.conv_seg.weight' in torch.load(destination, weights_only=True)['state_dict']

    assert 'model.pth exists; --force' in error_line(capsys, main, *arguments)
    assert exit_status(main, *arguments, '--force') == 0


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['ctnet', 'missing.pdparams', 'a.pth'], 'missing.pdparams: No such file or directory'),
        (['cac', 'model.pdparams', 'a.pth'], 'is no checkpoint'),
        (['ctnet', 'model.pdparams', 'a.pth', '--config', 'empty.py'], 'empty.py has no model'),
        (['ctnet', 'model.pdparams', 'a.py', '--config', './a.py', '--force'], 'is read and would'),
    ],
)
def test_wrong_input_is_one_line_and_status_two(arguments, message, source, monkeypatch, capsys):
    monkeypatch.chdir(source.parent)
    (source.parent / 'empty.py').write_text('a = 1\n')
    before = sorted(source.parent.iterdir())
    assert message in error_line(capsys, main, *arguments)
    assert sorted(source.parent.iterdir()) == before

"""The command line of the toy data sets; what they are like is tested with the package."""

import pytest

from mmseg_ctx.utils.commandline import run
from tools.make_toy_dataset import main


def _run(*arguments):
    with pytest.raises(SystemExit) as end:
        run(main, list(map(str, arguments)))
    return end.value.code or 0


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--images', '0'], "argument --images: must be an integer >= 1, got '0'"),
        (['--images', 'x'], "argument --images: must be an integer >= 1, got 'x'"),
        (['--size', '64', '0'], "argument --size: must be an integer >= 1, got '0'"),
        (['--seed', '-1'], "argument --seed: must be an integer >= 0, got '-1'"),
    ],
)
def test_wrong_input_names_the_option(arguments, message, tmp_path, capsys):
    assert _run('ade20k', tmp_path / 'toy', *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f'error: {message}')
    assert not list(tmp_path.iterdir())


def test_help_has_an_example(capsys):
    assert _run('--help') == 0
    assert 'python tools/make_toy_dataset.py pascal_voc12_aug' in capsys.readouterr().out

"""The command line of the toy data sets; what they are like is tested with the package."""

import pytest

from tests.helpers import exit_status
from tools.make_toy_dataset import main


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
    assert exit_status(main, 'ade20k', tmp_path / 'toy', *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f'error: {message}')
    assert not list(tmp_path.iterdir())


def test_help_has_an_example(capsys):
    assert exit_status(main, '--help') == 0
    assert 'python tools/make_toy_dataset.py pascal_voc12_aug' in capsys.readouterr().out

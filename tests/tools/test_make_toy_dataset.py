"""The command line of the toy data sets; what they are like is tested with the package."""

from PIL import Image

from tests.helpers import exit_status
from tools.make_toy_dataset import main


def test_writes_a_data_set_once(tmp_path, capsys):
    arguments = ('cityscapes', tmp_path / 'toy', '--images', '1', '--size', '32', '48')
    main(list(map(str, arguments)))
    with Image.open(next(tmp_path.glob('toy/leftImg8bit/val/**/*.png'))) as image:
        assert image.size == (48, 32)
    assert exit_status(main, *arguments) == 2
    assert f'error: {tmp_path / "toy"} exists' in capsys.readouterr().err

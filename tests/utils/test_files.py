"""Files that are written whole or not at all, on disks that refuse them."""

import os

import numpy as np
import pytest
from matplotlib.figure import Figure

from mmseg_ctx.utils.errors import one_line
from mmseg_ctx.utils.files import check_folder, check_writable, write_figure, writing
from tests.helpers import full_disk


def test_the_file_appears_when_all_of_it_is_written(tmp_path):
    path = tmp_path / 'a.tar.gz'
    with writing(path) as temporary:
        assert temporary.name == path.name
        temporary.write_text('half')
        assert not path.exists()
        temporary.write_text('whole')
    assert path.read_text() == 'whole'
    assert os.listdir(tmp_path) == ['a.tar.gz']
    (tmp_path / 'plain').touch()
    assert path.stat().st_mode == (tmp_path / 'plain').stat().st_mode


def test_after_an_exception_nothing_has_changed(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('old')
    with pytest.raises(pytest.fail.Exception), writing(path, force=True) as temporary:
        pytest.fail(f'after {temporary.write_text("half")} bytes')
    assert path.read_text() == 'old'
    assert os.listdir(tmp_path) == ['a.txt']


def test_an_existing_file_is_replaced_only_by_force(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('old')
    with pytest.raises(FileExistsError, match=r'a\.txt exists; --force'), writing(path):
        pass
    with pytest.raises(ValueError, match='is read and would'), writing(path, True, [path]):
        pass
    assert path.read_text() == 'old'
    with writing(path, force=True) as temporary:
        temporary.write_text('new')
    assert path.read_text() == 'new'


@pytest.mark.parametrize(
    'path', ['{0}', '/proc/table.md', '{0}/file/table.md', '{0}/link.md', f'{{0}}/{"n" * 252}.txt']
)
def test_what_cannot_be_written_is_refused_at_once(path, tmp_path):
    (tmp_path / 'file').write_text('')
    (tmp_path / 'link.md').symlink_to(tmp_path / 'none' / 'table.md')
    path = path.format(tmp_path)
    for force in (False, True):
        with pytest.raises(OSError, match=r'.') as error, writing(path, force):
            pytest.fail('worked')
        assert one_line(error.value).startswith(path)


def test_a_full_disk_is_noticed_at_once(tmp_path):
    with full_disk(100):
        for check, path in ((check_writable, tmp_path / 'a.md'), (check_folder, tmp_path / 'new')):
            with pytest.raises(OSError, match='File too large') as error:
                check(path)
            assert one_line(error.value) == f'{path}: File too large'
    check_writable(tmp_path / f'{"n" * 252}.md')
    check_folder(tmp_path / 'new' / 'below')
    assert os.listdir(tmp_path) == []


def _write_text(path):
    path.write_text('x' * 20_000)


def _write_noise(path):
    figure = Figure((4, 4))
    figure.figimage(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8))
    write_figure(figure, path, dpi=100)


@pytest.mark.parametrize('write', [_write_text, _write_noise])
def test_a_disk_that_gets_full_while_it_is_written(write, tmp_path):
    path = tmp_path / 'file.jpg'
    path.write_text('old')
    with (
        full_disk(),
        pytest.raises(OSError, match='too large') as error,
        writing(path, True) as file,
    ):
        write(file)
    assert one_line(error.value) == f'{path}: File too large'
    assert path.read_text() == 'old'
    assert os.listdir(tmp_path) == [path.name]

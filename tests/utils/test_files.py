"""Files that are written whole or not at all, on disks that refuse them."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

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


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
def test_after_an_exception_nothing_has_changed(error, tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('old')

    def write_half():
        with writing(path, force=True) as temporary:
            temporary.write_text('half')
            raise error

    with pytest.raises(error):
        write_half()
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


def test_a_link_leads_to_what_is_written(tmp_path):
    (tmp_path / 'disk').mkdir()
    link, target = tmp_path / 'a.txt', tmp_path / 'disk' / 'b.txt'
    link.symlink_to(target)
    for force, text in ((False, 'first'), (True, 'second')):
        with writing(link, force) as temporary:
            temporary.write_text(text)
        assert link.is_symlink()
        assert target.read_text() == text
    assert os.listdir(tmp_path / 'disk') == ['b.txt']


@pytest.mark.parametrize(
    ('path', 'reason'),
    [
        ('{0}', '{0} is a folder'),
        ('/proc/table.md', '/proc/table.md: '),
        ('/dev/full', '/dev/full is not a regular file'),
        ('{0}/file/table.md', '{0}/file/table.md cannot be written: '),
        ('{0}/none/table.md', '{0}/none/table.md cannot be written: '),
        ('{0}/link.md', '{0}/link.md cannot be written: {0}/none is not a folder'),
        ('{0}/{1}.txt', '{0}/{1}.txt: File name too long'),
    ],
)
def test_what_cannot_be_written_is_refused_at_once(path, reason, tmp_path):
    (tmp_path / 'file').write_text('')
    (tmp_path / 'link.md').symlink_to(tmp_path / 'none' / 'table.md')
    path, reason = (text.format(tmp_path, 'n' * 252) for text in (path, reason))
    for force in (False, True):
        with pytest.raises(OSError, match=r'.') as error, writing(path, force):
            pytest.fail('worked')
        assert one_line(error.value).startswith(reason)


def test_a_full_disk_is_noticed_at_once(tmp_path):
    with full_disk(100):
        for check, path in ((check_writable, tmp_path / 'a.md'), (check_folder, tmp_path / 'new')):
            with pytest.raises(OSError, match='File too large') as error:
                check(path)
            assert one_line(error.value) == f'{path}: File too large'
    check_writable(tmp_path / f'{"n" * 252}.md')
    check_folder(tmp_path / 'new' / 'below')
    assert os.listdir(tmp_path) == []


def test_a_folder_that_takes_no_files(tmp_path):
    (tmp_path / 'file').write_text('')
    (tmp_path / 'link').symlink_to(tmp_path / 'none')
    for folder in ('file', 'file/below', 'link', 'link/below'):
        with pytest.raises(NotADirectoryError, match=f'^{tmp_path / folder} cannot be a folder: '):
            check_folder(tmp_path / folder)
    with pytest.raises(OSError, match='/proc/new'):
        check_folder('/proc/new')
    (tmp_path / 'none').mkdir()
    check_folder(tmp_path / 'link' / 'below')


@contextmanager
def nobody():
    """Take root's rights away, which permissions do not bind."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_folder_without_permission():
    with tempfile.TemporaryDirectory() as root:  # pytest's own folders are closed to others
        os.chmod(root, 0o555)
        with nobody():
            for check in (check_writable, check_folder):
                with pytest.raises(PermissionError) as error:
                    check(Path(root, 'new'))
                assert one_line(error.value) == f'{root}/new: Permission denied'


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


def test_an_error_about_something_else_stays_as_it_is(tmp_path):
    def fail(error):
        with writing(tmp_path / 'a.md') as temporary:
            temporary.write_text('begun')
            raise error

    for name in ('images/a.png', str(tmp_path / 'b.md')):
        missing = FileNotFoundError(2, 'No such file or directory', name)
        for error in (missing, OSError('wrong'), RuntimeError('shapes differ')):
            with pytest.raises(type(error)) as seen:
                fail(error)
            assert seen.value is error


def test_errors_within_a_temporary_folder_name_what_was_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError) as error, writing(tmp_path / 'toy') as temporary:
        (temporary.parent / 'images' / 'a.png').write_bytes(b'')
    assert one_line(error.value) == f'{tmp_path}/toy: No such file or directory'


@pytest.mark.parametrize('suffix', ['PNG', 'jpg', 'pdf', 'svg'])
def test_a_figure_in_the_format_of_its_suffix(suffix, tmp_path):
    path = tmp_path / f'figure.{suffix}'
    write_figure(Figure(), path, dpi=50)
    begin = {'PNG': b'\x89PNG', 'jpg': b'\xff\xd8', 'pdf': b'%PDF', 'svg': b'<?xml'}
    assert path.read_bytes().startswith(begin[suffix])

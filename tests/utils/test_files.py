"""Files that are written whole or not at all, on disks that refuse them."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from mmseg_ctx.utils.commandline import picture
from mmseg_ctx.utils.errors import one_line
from mmseg_ctx.utils.files import check_folder, check_writable, naming, write_figure, writing
from tests.helpers import full_disk


def test_the_file_appears_when_all_of_it_is_written(tmp_path):
    path = tmp_path / 'a.tar.gz'
    with writing(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == '.gz'
        temporary.write_text('half')
        assert not path.exists()
        temporary.write_text('whole')
    assert path.read_text() == 'whole'
    assert os.listdir(tmp_path) == ['a.tar.gz']


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
    assert path.read_text() == 'old'
    with writing(path, force=True) as temporary:
        temporary.write_text('new')
    assert path.read_text() == 'new'


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(IsADirectoryError, match='is a folder'), writing(tmp_path, force=True):
        pass
    missing = tmp_path / 'missing' / 'a.txt'
    with pytest.raises(FileNotFoundError, match='missing'), writing(missing):
        pass


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


def test_a_name_of_the_greatest_length(tmp_path):
    path = tmp_path / f'{"n" * 251}.txt'
    with writing(path) as temporary:
        temporary.write_text('whole')
    assert path.read_text() == 'whole'
    longer = tmp_path / f'{"n" * 252}.txt'
    with pytest.raises(OSError, match='File name too long') as error:
        check_writable(longer)
    assert one_line(error.value) == f'{longer}: File name too long'


@pytest.mark.parametrize(
    ('path', 'reason'),
    [
        ('/proc/table.md', '/proc/table.md: '),
        ('/proc/self/table.md', '/proc/self/table.md: '),
        ('/dev/null', '/dev/null is not a regular file'),
        ('/dev/full', '/dev/full is not a regular file'),
        (
            '{folder}/file/table.md',
            '{folder}/file/table.md cannot be written: ',
        ),
        (
            '{folder}/none/table.md',
            '{folder}/none/table.md cannot be written: ',
        ),
        ('{folder}/link.md', '{folder}/link.md cannot be written: {folder}/none is not a folder'),
    ],
)
def test_what_cannot_be_written_is_refused_at_once(path, reason, tmp_path):
    (tmp_path / 'file').write_text('')
    (tmp_path / 'link.md').symlink_to(tmp_path / 'none' / 'table.md')
    for force in (False, True):
        with (
            pytest.raises(OSError, match=r'.') as error,
            writing(path.format(folder=tmp_path), force),
        ):
            pytest.fail('worked')
        assert one_line(error.value).startswith(reason.format(folder=tmp_path))


def test_a_full_disk_is_noticed_at_once(tmp_path):
    with full_disk(100):
        for check, path in ((check_writable, tmp_path / 'a.md'), (check_folder, tmp_path / 'new')):
            with pytest.raises(OSError, match='File too large') as error:
                check(path)
            assert one_line(error.value) == f'{path}: File too large'
    assert os.listdir(tmp_path) == []
    check_writable(tmp_path / 'a.md')
    check_folder(tmp_path / 'new' / 'below')
    assert os.listdir(tmp_path) == []


def test_a_folder_that_takes_no_files(tmp_path):
    (tmp_path / 'file').write_text('')
    for folder in (tmp_path / 'file', tmp_path / 'file' / 'below'):
        with pytest.raises(NotADirectoryError, match=f'^{folder} cannot be a folder: '):
            check_folder(folder)
    with pytest.raises(OSError, match='/proc/new'):
        check_folder('/proc/new')
    (tmp_path / 'link').symlink_to(tmp_path / 'none')
    for folder in (tmp_path / 'link', tmp_path / 'link' / 'below'):
        with pytest.raises(NotADirectoryError, match=f'^{folder} cannot be a folder: '):
            check_folder(folder)
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
        path = Path(root, 'a.md')
        with nobody():
            for check, asked_for in ((check_writable, path), (check_folder, Path(root, 'new'))):
                with pytest.raises(PermissionError) as error:
                    check(asked_for)
                assert one_line(error.value) == f'{asked_for}: Permission denied'


def _too_much(path, kind):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    if kind == 'text':
        path.write_text('x' * 20_000)
    elif kind == 'torch':
        torch.save(dict(weight=torch.zeros(20_000)), path)
    else:
        figure = Figure((4, 4))
        figure.figimage(noise)
        write_figure(figure, path, dpi=100)


@pytest.mark.parametrize('kind', ['text', 'torch', 'figure'])
@pytest.mark.parametrize('suffix', ['png', 'jpg'])
def test_a_disk_that_gets_full_while_it_is_written(kind, suffix, tmp_path):
    path = tmp_path / f'file.{suffix}'
    path.write_text('old')
    with full_disk(), pytest.raises(OSError, match=r'file\.') as error, writing(path, True) as file:
        _too_much(file, kind)
    assert one_line(error.value).startswith(f'{path}')
    assert '.file' not in one_line(error.value)
    assert path.read_text() == 'old'
    assert os.listdir(tmp_path) == [path.name]


def test_an_error_about_something_else_stays_as_it_is(tmp_path):
    def fail(error, begin):
        with writing(tmp_path / 'a.md') as temporary:
            if begin:
                temporary.write_text('begun')
            raise error

    before = FileNotFoundError(2, 'No such file or directory', 'images/a.png')
    for error in (before, OSError('wrong'), RuntimeError('shapes differ')):
        with pytest.raises(type(error)) as seen:
            fail(error, begin=False)
        assert seen.value is error
    for error in (before, RuntimeError('shapes differ')):
        with pytest.raises(type(error)) as seen:
            fail(error, begin=True)
        assert seen.value is error


def test_errors_within_a_temporary_folder_name_what_was_asked_for(tmp_path):
    temporary = tmp_path / '.toy-1234'
    with pytest.raises(FileNotFoundError) as error, naming('toy', temporary):
        (temporary / 'images' / 'a.png').write_bytes(b'')
    assert one_line(error.value) == 'toy: No such file or directory'


@pytest.mark.parametrize('suffix', sorted(Figure().canvas.get_supported_filetypes()))
def test_a_figure_in_every_format(suffix, tmp_path):
    path = tmp_path / picture(f'figure.{suffix.upper()}')
    write_figure(Figure(), path, dpi=50)
    assert path.stat().st_size > 0

"""Write files completely or not at all."""

import io
import os
import secrets
from contextlib import contextmanager, suppress
from pathlib import Path

# Text in the RuntimeError that torch.save raises if a file cannot be written.
TORCH_WRITER = ('inline_container.cc', 'basic_ios::clear', 'PytorchStreamWriter')


def check_writable(path, force=False, read=()):
    """Check, before any work, that a file can be written.

    Args:
        path (str | Path): The file, in a folder that exists.
        force (bool): Whether an existing ``path`` may be replaced. Default: False.
        read (Iterable[str | Path]): Files that the work reads, none of which ``path`` may be, not
            even with ``force``. Default: none.

    Raises:
        ValueError: ``path`` is one of ``read``.
        FileNotFoundError: The folder does not exist.
        FileExistsError: ``path`` exists and ``force`` is False.
        IsADirectoryError: ``path`` is a folder.
        OSError: ``path`` is no regular file, its folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f'{path} is a folder; name a file')
    if path.exists() and not path.is_file():
        raise OSError(f'{path} is not a regular file')
    if path.exists() and not force:
        raise FileExistsError(f'{path} exists; --force overwrites it')
    target = Path(os.path.realpath(path))
    if str(target) in map(os.path.realpath, read):
        raise ValueError(f'{path} is read and would be overwritten; name another place')
    if not target.parent.is_dir():
        raise FileNotFoundError(f'{path} cannot be written: {target.parent} is not a folder')
    _try_to_write(target, path)


def check_folder(folder):
    """Check, before any work, that files can be written into a folder, which need not exist.

    Raises:
        NotADirectoryError: The folder, or one that would contain it, is a file.
        OSError: The folder cannot be made or written to, or the disk is full.
    """
    folder = Path(folder)
    # A broken link counts as existing, since no folder can be made in its place.
    nearest = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not nearest.is_dir():
        raise NotADirectoryError(f'{folder} cannot be a folder: {nearest} is not a folder')
    _try_to_write(nearest / 'file', folder)


def _try_to_write(path, asked_for):
    # Permissions are not enough: root ignores them, and a disk can be full or read-only.
    with _temporary(path, asked_for) as temporary:
        temporary.write_bytes(bytes(4096))


@contextmanager
def writing(path, force=False, read=()):
    """Give a temporary file to write, which replaces ``path`` at the end of the context.

    The temporary file is in the same folder and has the same suffix. An exception removes it and
    leaves ``path`` unchanged. If ``path`` is a symbolic link, the file behind the link is replaced.

    Args:
        path (str | Path): The file to write, in a folder that exists.
        force (bool): Whether an existing ``path`` may be replaced. Default: False.
        read (Iterable[str | Path]): See :func:`check_writable`. Default: none.

    Yields:
        Path: The temporary file, which does not exist yet.

    Raises:
        OSError: At the beginning, see :func:`check_writable`; or later, if writing fails. The
            message names ``path``.

    Example:
        >>> with writing('model.pth') as temporary:
        ...     torch.save(state, temporary)
    """
    check_writable(path, force, read)
    target = Path(os.path.realpath(path))
    with _temporary(target, path) as temporary:
        yield temporary
        temporary.replace(target)


@contextmanager
def _temporary(path, asked_for):
    # Part of the stem, since a name has at most 255 bytes.
    temporary = path.with_name(f'.{path.stem[:32]}-{secrets.token_hex(4)}{path.suffix}')
    try:
        with naming(asked_for, temporary):
            yield temporary
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def naming(path, temporary):
    """Let errors about a temporary file or folder name the final path instead.

    Args:
        path (str | Path): The final path, which the user asked for.
        temporary (Path): The temporary file or folder. Once it exists, errors without a file name
            count as errors about it.

    Raises:
        OSError: Instead of an OSError about ``temporary``, or of a RuntimeError of ``torch.save``.
    """
    try:
        yield
    except OSError as error:
        about_it = str(error.filename).startswith(str(temporary))
        if not about_it and (error.filename is not None or not temporary.exists()):
            raise
        if error.errno:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise OSError(f'{path} cannot be written: {error}') from error
    except RuntimeError as error:
        if not temporary.exists() or not any(text in str(error) for text in TORCH_WRITER):
            raise
        raise OSError(f'{path} cannot be written; is the disk full? ({error})') from error


def write_figure(figure, path, dpi):
    """Write a Matplotlib figure in the format of the file's suffix.

    Args:
        figure (matplotlib.figure.Figure): The figure.
        path (Path): The file. An existing one is replaced.
        dpi (int): Pixels per inch.
    """
    # Encoded in memory first: Pillow does not notice a disk that fills up within a file.
    content = io.BytesIO()
    figure.savefig(content, dpi=dpi, format=path.suffix.removeprefix('.').lower())
    path.write_bytes(content.getvalue())

"""Write files completely or not at all."""

import io
import os
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


def check_writable(path, force=False, read=()):
    """Check, before any work, that a file can be written.

    Args:
        path (str | Path): The file, in a folder that exists.
        force (bool): Whether an existing ``path`` may be replaced. Default: False.
        read (Iterable[str | Path]): Files that the work reads, none of which ``path`` may be, not
            even with ``force``. Default: none.

    Raises:
        ValueError: ``path`` is one of ``read``.
        FileExistsError: ``path`` exists and ``force`` is False.
        OSError: ``path`` is no regular file, its folder cannot be written to, or the disk is full.
    """
    path, target = Path(path), os.path.realpath(path)
    if path.exists() and not path.is_file():
        raise OSError(f'{path} is {"a folder" if path.is_dir() else "no regular file"}')
    if path.exists() and not force:
        raise FileExistsError(f'{path} exists; --force overwrites it')
    if target in map(os.path.realpath, read):
        raise ValueError(f'{path} is read and would be overwritten; name another place')
    with _temporary(Path(target), path):
        pass


def check_folder(folder):
    """Check, before any work, that files can be written into a folder, which need not exist.

    Raises:
        OSError: The folder cannot be made or written to, or the disk is full.
    """
    # A broken link counts as existing, since no folder can be made in its place.
    nearest = next(path for path in (Path(folder), *Path(folder).parents) if os.path.lexists(path))
    if not nearest.is_dir():
        raise NotADirectoryError(f'{folder} cannot be a folder: {nearest} is not a folder')
    with _temporary(nearest / 'file', folder):
        pass


@contextmanager
def writing(path, force=False, read=()):
    """Give a temporary file to write, which replaces ``path`` at the end of the context.

    The temporary file has the same name, in a temporary folder beside ``path``. An exception
    removes it and leaves ``path`` unchanged. If ``path`` is a symbolic link, the file behind the
    link is replaced.

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
        >>> with writing('table.md') as temporary:
        ...     temporary.write_text(table)
    """
    check_writable(path, force, read)
    target = Path(os.path.realpath(path))
    with _temporary(target, path) as temporary:
        yield temporary
        os.replace(temporary, target)


@contextmanager
def _temporary(path, asked_for):
    """Yield a file in a folder beside ``path``; an OSError about it names the file asked for."""
    folder = str(path.parent)
    try:
        # In a folder of its own, since a file that tempfile makes is closed to other users.
        with TemporaryDirectory(prefix='.', dir=folder) as folder:
            temporary = Path(folder, path.name)
            # Permissions are not enough: root ignores them, and a disk can be full or read-only.
            temporary.write_bytes(bytes(4096))
            temporary.unlink()
            yield temporary
    except OSError as error:
        # An error of a full disk names no file.
        if error.errno and str(error.filename or folder).startswith(folder):
            raise OSError(error.errno, error.strerror, str(asked_for)) from error
        raise


def write_figure(figure, path, dpi):
    """Write a Matplotlib figure, at ``dpi`` pixels per inch, in the format of the file's suffix."""
    # Encoded in memory first: Pillow does not notice a disk that fills up within a file.
    content = io.BytesIO()
    figure.savefig(content, dpi=dpi, format=path.suffix.removeprefix('.').lower())
    path.write_bytes(content.getvalue())

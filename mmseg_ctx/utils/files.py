"""Files that are written whole or not at all."""

import io
import os
import secrets
from contextlib import contextmanager, suppress
from pathlib import Path

# What torch.save's own writer says, as a RuntimeError, where a file cannot be written.
TORCH_WRITER = ('inline_container.cc', 'basic_ios::clear', 'PytorchStreamWriter')


def check_writable(path, force=False):
    """Check, before any work, that a file can be written.

    Args:
        path (str | Path): The file, in a folder that exists.
        force (bool): Whether an existing ``path`` may be replaced. Default: False.

    Raises:
        FileNotFoundError: The folder does not exist.
        FileExistsError: ``path`` exists and ``force`` is False.
        IsADirectoryError: ``path`` is a folder.
        OSError: ``path`` is a device or the like, its folder takes no files, or the disk is full.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f'{path} is a folder; name a file')
    if path.exists() and not path.is_file():
        raise OSError(f'{path} is not a regular file')
    if path.exists() and not force:
        raise FileExistsError(f'{path} exists; --force overwrites it')
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(f'{path} cannot be written: {target.parent} is not a folder')
    _try_to_write(target, path)


def check_folder(folder):
    """Check, before any work, that files can be written into a folder, which need not exist.

    Raises:
        NotADirectoryError: It, or what it would lie in, is a file.
        OSError: It takes no files, cannot be made, or the disk is full.
    """
    folder = Path(folder)
    # A link that leads nowhere is there, too: no folder can be made in its place.
    nearest = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not nearest.is_dir():
        raise NotADirectoryError(f'{folder} cannot be a folder: {nearest} is not a folder')
    _try_to_write(nearest / 'file', folder)


def _try_to_write(path, asked_for):
    # Permissions do not tell: they do not bind root, and a disk can be full or read-only.
    with _temporary(path, asked_for) as temporary:
        temporary.write_bytes(bytes(4096))


@contextmanager
def writing(path, force=False):
    """Give a temporary file to write, which takes the place of ``path`` when all went well.

    The temporary file lies in the same folder and has the same suffix. After an exception it is
    gone, and ``path`` is as it was. Where ``path`` is a symbolic link, what it leads to is written.

    Args:
        path (str | Path): The file to write, in a folder that exists.
        force (bool): Whether an existing ``path`` may be replaced. Default: False.

    Yields:
        Path: The temporary file, which does not exist yet.

    Raises:
        OSError: As :func:`check_writable` says, at once; or later, where the file could not be
            written after all. It names ``path``.

    Example:
        >>> with writing('model.pth') as temporary:
        ...     torch.save(state, temporary)
    """
    check_writable(path, force)
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
    """Let errors about a temporary file or folder name what was asked for.

    Args:
        path (str | Path): What was asked for.
        temporary (Path): What is written first. Once it exists, errors that name no file are taken
            to be about it.

    Raises:
        OSError: In place of one about ``temporary``, and of what ``torch.save`` raises.
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
    """Write a figure of Matplotlib in the format that the file's suffix names.

    Args:
        figure (matplotlib.figure.Figure): The figure.
        path (Path): The file; an existing one is replaced.
        dpi (int): Pixels an inch.
    """
    # Written at once: Pillow's encoders do not notice a disk that takes a part of the file.
    content = io.BytesIO()
    figure.savefig(content, dpi=dpi, format=path.suffix.removeprefix('.').lower())
    path.write_bytes(content.getvalue())

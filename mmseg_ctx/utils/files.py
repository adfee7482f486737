"""Files that are written whole or not at all."""

import secrets
from contextlib import contextmanager
from pathlib import Path


def refuse_existing(path, force=False):
    """Raise a FileExistsError where a file is that may not be replaced."""
    if Path(path).exists() and not force:
        raise FileExistsError(f'{path} exists; --force overwrites it')


@contextmanager
def writing(path, force=False):
    """Give a temporary file to write, which takes the place of ``path`` when all went well.

    The temporary file lies in the same folder and has the same suffix. After an exception it is
    gone, and ``path`` is as it was.

    Args:
        path (str | Path): The file to write, in a folder that exists.
        force (bool): Whether an existing ``path`` may be replaced. Default: False.

    Yields:
        Path: The temporary file, which does not exist yet.

    Raises:
        FileNotFoundError: The folder does not exist.
        FileExistsError: ``path`` exists and ``force`` is False.
        IsADirectoryError: ``path`` is a folder.

    Example:
        >>> with writing('model.pth') as temporary:
        ...     torch.save(state, temporary)
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f'{path} is a folder; name a file')
    if not path.parent.is_dir():
        raise FileNotFoundError(f'{path.parent}, where {path.name} is to be, is not a folder')
    refuse_existing(path, force)
    temporary = path.with_name(f'.{path.stem}-{secrets.token_hex(4)}{path.suffix}')
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)

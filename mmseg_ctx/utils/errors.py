"""Turn errors into one line."""

from contextlib import contextmanager


def one_line(error):
    """Return the text of an exception, or any other text, on one line."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f'{error.filename}: {error.strerror}'
    return ' '.join(str(error).split())


def first_names(names):
    """Return the first two of a list of names, and the number of the others, as text."""
    more = f' and {len(names) - 2} more' if len(names) > 2 else ''
    return ', '.join(names[:2]) + more


@contextmanager
def value_errors(complaint):
    """Turn any exception that a library raises for an input into a ValueError.

    Args:
        complaint (str): Beginning of the message: what failed, with the name of the input.

    Raises:
        ValueError: Instead of any other exception, except ``KeyboardInterrupt``. This includes
            ``SystemExit``, since a config is a program and may call ``sys.exit``.

    Example:
        >>> with value_errors('model.py cannot be read as a config'):
        ...     config = Config.fromfile('model.py')
    """
    try:
        yield
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        reasons = (complaint, type(error).__name__, one_line(error))
        raise ValueError(': '.join(filter(None, reasons))) from error


@contextmanager
def needs_extra(extra):
    """Let the error about a missing package name the extra that installs it.

    Args:
        extra (str): An extra of this package, as in ``setup.py``.

    Raises:
        ImportError: Instead of a ModuleNotFoundError.

    Example:
        >>> with needs_extra('export'):
        ...     import onnxruntime
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{error.name} is not installed; pip install 'mmseg-ctx[{extra}]' installs it"
        ) from error

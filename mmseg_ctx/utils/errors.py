"""Errors as one line."""

from contextlib import contextmanager


def one_line(error):
    """Return the text of an exception, or any other text, on one line."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f'{error.filename}: {error.strerror}'
    return ' '.join(str(error).split())


def first_names(names):
    """Return the first two of a list of names, and how many more there are."""
    more = f' and {len(names) - 2} more' if len(names) > 2 else ''
    return ', '.join(names[:2]) + more


@contextmanager
def value_errors(complaint):
    """Turn whatever an input makes a library raise into a ValueError.

    Args:
        complaint (str): What failed, with the input's name; the message begins with it.

    Raises:
        ValueError: In place of any other exception, ``SystemExit`` included, since a config is a
            program and may call ``sys.exit``. Only the user's own interruption stays as it is.

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

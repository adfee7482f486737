"""Options of the tools that write tables."""

import sys
from contextlib import contextmanager

from mmseg_ctx.utils.files import writing
from mmseg_ctx.utils.tables import FORMATS, render


def add_output_options(parser):
    """Give a tool's argument parser the options that ``output`` reads."""
    parser.add_argument(
        '--format', choices=FORMATS, default='text', help='format of the tables; default: text'
    )
    parser.add_argument('--out', metavar='FILE', help='file to write; default: standard output')
    parser.add_argument('--force', action='store_true', help='overwrite FILE')


@contextmanager
def output(arguments):
    """Yield the function that writes tables as the options of ``add_output_options`` say.

    A file that cannot be written is refused before anything is measured. If writing fails later,
    the tables go to standard output, so that they are not lost.

    Args:
        arguments (argparse.Namespace): The tool's arguments.

    Yields:
        Callable[[Sequence[Table]], None]: Call it once.
    """
    if arguments.out is None:
        yield lambda tables: sys.stdout.write(render(tables, arguments.format))
        return
    text = ''

    def write(tables):
        nonlocal text
        text = render(tables, arguments.format)
        temporary.write_text(text)

    try:
        with writing(arguments.out, arguments.force) as temporary:
            yield write
    except OSError:
        sys.stdout.write(text)
        raise

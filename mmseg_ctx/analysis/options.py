"""The options of tools that write tables."""

import sys
from contextlib import contextmanager

from mmseg_ctx.utils.files import writing
from mmseg_ctx.utils.tables import FORMATS, render


def add_output_options(parser):
    """Give a tool's argument parser the options that ``output`` reads."""
    parser.add_argument('--format', choices=FORMATS, default='text', help='default: text')
    parser.add_argument('--out', metavar='FILE', help='write there, not to standard output')
    parser.add_argument('--force', action='store_true', help='overwrite FILE')


@contextmanager
def output(arguments):
    """Give the function that writes tables as the options of ``add_output_options`` say.

    A file that cannot be written is refused here, before anything is measured.

    Args:
        arguments (argparse.Namespace): The tool's arguments.

    Yields:
        Callable[[Sequence[Table]], None]: To be called once.
    """
    if arguments.out is None:
        yield lambda tables: sys.stdout.write(render(tables, arguments.format))
        return
    with writing(arguments.out, arguments.force) as temporary:
        yield lambda tables: temporary.write_text(render(tables, arguments.format))

"""What the command lines of the measuring tools share."""

import argparse
import sys
from contextlib import contextmanager

import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from mmseg_ctx.commandline import writing
from mmseg_ctx.measure.table import FORMATS, render


def integer(minimum):
    """Return an argument's type: an integer of at least ``minimum``."""

    def convert(text):
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if value < minimum:
            raise argparse.ArgumentTypeError(f'must be an integer >= {minimum}, got {text!r}')
        return value

    return convert


def device(text):
    """Return an argument that names a device which is there."""
    if text not in ('cpu', 'cuda'):
        raise argparse.ArgumentTypeError(f"must be 'cpu' or 'cuda', got {text!r}")
    if text == 'cuda' and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError("must be 'cpu': this PyTorch finds no CUDA device")
    return text


def progress_bar():
    """Return a progress bar on standard error, to be used as a context."""
    columns = (*Progress.get_default_columns(), TimeElapsedColumn(), MofNCompleteColumn())
    return Progress(*columns, console=Console(stderr=True))


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

"""Command line of all tools: common arguments, progress bar, errors in one line."""

import argparse
import os
import re
import signal
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.config import DictAction
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from mmseg_ctx.utils.errors import one_line
from mmseg_ctx.utils.files import writing
from mmseg_ctx.utils.tables import FORMATS, render


class ArgumentParser(argparse.ArgumentParser):
    """``argparse.ArgumentParser`` whose errors are one line, without the usage.

    ``description`` and ``epilog`` keep their line breaks, so that an example can be copied.
    """

    def __init__(self, **kwargs):
        kwargs['formatter_class'] = argparse.RawDescriptionHelpFormatter
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message):
        """End the process with a status of 2, and with one line on standard error."""
        self.exit(2, f'error: {one_line(message)} (see {self.prog} --help)\n')


class _Settings(DictAction):
    """MMEngine's ``DictAction``, which has no words for a value without ``=``."""

    def __call__(self, parser, namespace, values, option_string=None):
        for value in values:
            if not value.partition('=')[0] or '=' not in value:
                parser.error(f'{option_string} must be KEY=VALUE, got {value!r}')
        super().__call__(parser, namespace, values, option_string)


def add_cfg_options(parser):
    """Add ``--cfg-options`` to a parser, as in MMSegmentation's own tools."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=_Settings,
        metavar='KEY=VALUE',
        help='settings that replace the config’s',
    )


def integer(minimum):
    """Return an argparse type for integers >= ``minimum``."""

    def convert(text):
        if not re.fullmatch(r'[+-]?\d+', text) or int(text) < minimum:
            raise argparse.ArgumentTypeError(f'must be an integer >= {minimum}, got {text!r}')
        return int(text)

    return convert


def add_device(parser):
    """Add ``--device`` to a parser."""
    parser.add_argument(
        '--device',
        type=device,
        default='cpu',
        help='cpu, cuda, or cuda:N for the GPU number N; default: %(default)s',
    )


def device(text):
    """Argparse type of ``--device``: the name of a device that PyTorch finds."""
    gpus = [f'cuda:{number}' for number in range(torch.cuda.device_count())]
    found = ['cpu', 'cuda', *gpus] if gpus else ['cpu']
    if text not in found:
        raise argparse.ArgumentTypeError(f'must be one of {", ".join(found)}, got {text!r}')
    return text


def picture(text):
    """Argparse type of an output picture: a file name with a suffix that Matplotlib can write."""
    from matplotlib.backend_bases import FigureCanvasBase

    suffixes = [f'.{kind}' for kind in sorted(FigureCanvasBase.get_supported_filetypes())]
    if Path(text).suffix.lower() not in suffixes:
        raise argparse.ArgumentTypeError(f'must end in one of {", ".join(suffixes)}, got {text!r}')
    return text


def add_table_options(parser):
    """Add the options of ``write_tables`` to a parser."""
    parser.add_argument(
        '--format', choices=FORMATS, default='text', help='format of the tables; default: text'
    )
    parser.add_argument('--out', metavar='FILE', help='file to write; default: standard output')
    parser.add_argument('--force', action='store_true', help='overwrite FILE')


def write_tables(measure, arguments):
    """Write the tables that ``measure()`` returns as the options of ``add_table_options`` say.

    A file that cannot be written is refused before anything is measured.
    """
    if arguments.out is None:
        sys.stdout.write(render(measure(), arguments.format))
        return
    with writing(arguments.out, arguments.force) as temporary:
        temporary.write_text(render(measure(), arguments.format))


@contextmanager
def progress_bar():
    """Show a ``rich.progress.Progress`` on standard error, and remove it after an exception."""
    columns = (*Progress.get_default_columns(), TimeElapsedColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    # To a terminal, lines go above the bar; to a file or a pipe, they must not go through it.
    with Progress(*columns, console=console, redirect_stdout=sys.stdout.isatty()) as bar:
        try:
            yield bar
        except Exception:
            # A terminal erases the bar. To a file, the bar is never written.
            bar.live.transient = True
            console.quiet = not console.is_interactive
            raise


def run(main, arguments=None):
    """Run a tool and end the process with its exit status.

    Args:
        main (Callable): Called with the list of arguments; returns the exit status. Its ValueError,
            OSError or ImportError means that the input is wrong, and becomes one line on standard
            error and status 2. Ctrl-C becomes one line and status 130; a reader of the output
            that goes away, as ``head`` does, status 141. Any other exception is a defect of the
            tool and keeps its traceback.
        arguments (list[str] | None): The arguments; None for the command line's.
            Default: None.
    """
    try:
        with warnings.catch_warnings():
            # OpenMMLab's warnings to authors of configs would precede the line of an error.
            openmmlab = r'(mmcv|mmengine|mmseg)(\.|$)'
            warnings.filterwarnings('ignore', category=UserWarning, module=openmmlab)
            status = main(sys.argv[1:] if arguments is None else arguments)
            sys.stdout.flush()
    except BrokenPipeError:  # as in `tool | head`: nobody reads what is still in the buffer
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 128 + signal.SIGPIPE
    except (ValueError, OSError, ImportError) as error:
        print(f'error: {one_line(error)}', file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        status = 130  # a shell's status: 128 plus the number of the signal
    sys.exit(status)

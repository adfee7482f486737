"""Serve the page at one address."""

import os
import signal
import socket
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from unittest import mock


def require_gradio():
    """Raise an ImportError that says how to install Gradio, if it is missing."""
    if find_spec('gradio') is None:
        raise ImportError("gradio is not installed; pip install 'mmseg-ctx[explore]' installs it")


def require_free(host, port):
    """Raise an OSError if no server can listen at an address."""
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except (OSError, OverflowError) as error:
        text = f'no server can listen at {host}:{port} ({error})'
        raise OSError(f'{text}; --port and --host name another place') from error


@contextmanager
def serving(explorer, model_name, images=(), host='127.0.0.1', port=7860):
    """Serve the page about a model while the context lasts, and yield its address.

    Args:
        explorer (Explorer): The model.
        model_name (str): Name of the model on the page.
        images (Sequence[Path]): Images to choose from. Default: none.
        host (str): Address to listen at. Default: ``'127.0.0.1'``, which only this machine reaches.
        port (int): Port to listen at. Default: 7860.
    """
    with tempfile.TemporaryDirectory(prefix='mmseg-ctx-') as folder, ExitStack() as stack:
        # Gradio asks the page whether it is there. A proxy would not find this machine's address.
        stack.enter_context(mock.patch.dict(os.environ, GRADIO_TEMP_DIR=folder, no_proxy='*'))
        # Imported here, since Gradio is an extra, and makes folders when it is imported.
        from mmseg_ctx.visualization.explore.page import CSS, Page

        blocks = Page(explorer, model_name, images).blocks
        stack.callback(blocks.close, verbose=False)
        _, address, _ = blocks.launch(
            server_name=f'[{host}]' if ':' in host else host,
            server_port=port,
            max_file_size='20mb',
            prevent_thread_lock=True,
            quiet=True,
            ssr_mode=False,
            footer_links=[],
            css=CSS,
        )
        yield address


def serve(explorer, model_name, images, host, port):
    """Serve the page until the process gets SIGINT or SIGTERM; see :func:`serving`."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with serving(explorer, model_name, images, host, port) as address:
            if host not in ('127.0.0.1', 'localhost', '::1'):
                print('warning: everyone who reaches this address sees the images', file=sys.stderr)
            print(f'{model_name}: {address}', flush=True)
            signal.pause()
    except KeyboardInterrupt:
        print('the page is closed')

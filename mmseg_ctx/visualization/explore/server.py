"""Serve the page at one address, and delete its temporary files."""

import os
import signal
import socket
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from mmseg_ctx.visualization.explore.guard import Guard
from mmseg_ctx.visualization.explore.images import MAX_FILE_BYTES

SESSIONS = 8
"""Number of browser sessions whose image is kept. A further one replaces the oldest."""
SECONDS_KEPT = 60
"""Seconds until an uploaded file is deleted that no event read, or whose upload broke off."""


def require_gradio():
    """Raise an ImportError that says how to install Gradio, if it is missing."""
    if find_spec('gradio') is None:
        raise ImportError("the page needs Gradio, which `pip install 'gradio>=6.31'` gives")


def require_free(host, port):
    """Raise an OSError if no server can listen at an address."""
    try:
        if port > 65535:
            raise OSError('ports end at 65535')
        family, kind, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError as error:
        raise OSError(f'no server can listen at {host}:{port}: {error}') from error


@contextmanager
def private_folder():
    """Let Gradio put its files in a folder that only this user can read; delete it at the end."""
    before = os.environ.get('GRADIO_TEMP_DIR')
    with tempfile.TemporaryDirectory(prefix='mmseg-ctx-') as folder, _removing_old(folder):
        os.environ['GRADIO_TEMP_DIR'] = folder
        try:
            yield
        finally:
            os.environ.pop('GRADIO_TEMP_DIR')
            if before is not None:
                os.environ['GRADIO_TEMP_DIR'] = before


@contextmanager
def _removing_old(folder):
    """While the context lasts, delete files in a folder that are older than ``SECONDS_KEPT``.

    Gradio's ``delete_cache`` does not delete the file of an upload that broke off.
    """
    ended = threading.Event()

    def remove():
        while not ended.wait(SECONDS_KEPT / 2):
            for path in Path(folder).rglob('*'):
                with suppress(OSError):  # a folder, or a file that is deleted already
                    if time.time() - path.stat().st_mtime > SECONDS_KEPT:
                        path.unlink()

    thread = threading.Thread(target=remove)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def serving(explorer, model_name, host='127.0.0.1', port=7860):
    """Serve the page about a model while the context lasts.

    Args:
        explorer (Explorer): The model and its images.
        model_name (str): Name of the model on the page.
        host (str): Address to listen at. Default: ``'127.0.0.1'``, which only this machine reaches.
        port (int): Port to listen at. Default: 7860.

    Yields:
        str: The address of the page.

    Raises:
        OSError: The server cannot listen at this address.
    """
    require_free(host, port)
    with private_folder():
        # Imported here, since importing Gradio already makes folders.
        from starlette.middleware import Middleware

        from mmseg_ctx.visualization.explore.page import CSS, Page

        blocks = Page(explorer, model_name).blocks
        try:
            _, address, _ = blocks.launch(
                server_name=host,
                server_port=port,
                prevent_thread_lock=True,
                quiet=True,
                share=False,
                show_error=False,
                max_file_size=MAX_FILE_BYTES,
                state_session_capacity=SESSIONS,
                enable_monitoring=False,
                run_history=False,
                ssr_mode=False,
                footer_links=[],
                app_kwargs=dict(middleware=[Middleware(Guard)]),
                css=CSS,
            )
            yield address
        finally:
            blocks.close(verbose=False)


def serve(explorer, model_name, host, port):
    """Serve the page until the process gets SIGINT or SIGTERM; see :func:`serving`."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with serving(explorer, model_name, host, port) as address:
            print(f'{model_name}: {address}', flush=True)
            signal.pause()
    except KeyboardInterrupt:
        print('the page is closed')

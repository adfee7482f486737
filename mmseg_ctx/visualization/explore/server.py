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
SECONDS_KEPT = 300
"""Seconds until an uploaded file is deleted that no event read, or whose upload broke off.

A file may wait as long for the model, which predicts one image at a time.
"""
LOCAL_NAMES = ('127.0.0.1', 'localhost', '::1', '[::1]')


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
def private_environment():
    """Let Gradio put its files in a folder that only this user can read; delete it at the end.

    Gradio asks the page whether it is there. A proxy would not find this machine's own address.
    """
    folders = tempfile.TemporaryDirectory(prefix='mmseg-ctx-')
    with folders as folder, _removing_old(folder):
        values = dict(GRADIO_TEMP_DIR=folder, no_proxy='*')
        before = {name: os.environ.get(name) for name in values}
        os.environ.update(values)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value


@contextmanager
def _removing_old(folder):
    """While the context lasts, delete what lies in a folder for longer than ``SECONDS_KEPT``.

    Gradio's ``delete_cache`` does not delete the file of an upload that broke off.
    """
    ended = threading.Event()

    def remove():
        while not ended.wait(SECONDS_KEPT / 2):
            for path in Path(folder).rglob('*'):
                with suppress(OSError):  # a folder with files, or a file that is deleted already
                    if time.time() - path.stat().st_mtime > SECONDS_KEPT:
                        path.rmdir() if path.is_dir() else path.unlink()

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
    with private_environment():
        # Imported here, since importing Gradio already makes folders.
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        from mmseg_ctx.visualization.explore.page import CSS, Page

        # Else a page of another site, whose name is made to mean this machine, could read this one.
        names = LOCAL_NAMES if host in LOCAL_NAMES else ['*']
        blocks = Page(explorer, model_name).blocks
        try:
            _, address, _ = blocks.launch(
                server_name=f'[{host}]' if ':' in host else host,
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
                app_kwargs=dict(
                    middleware=[
                        Middleware(TrustedHostMiddleware, allowed_hosts=names),
                        Middleware(Guard),
                    ]
                ),
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

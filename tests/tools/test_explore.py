"""The command line of the page; what the page does is tested with the package."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from functools import partial

import pytest

from tests.helpers import ROOT, error_line, free_port
from tests.small_models import write_model
from tools.explore import main


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    return write_model('DMNet', tmp_path_factory.mktemp('model'))


@pytest.mark.slow
@pytest.mark.parametrize(('end', 'host'), [('SIGTERM', '127.0.0.1'), ('SIGINT', '0.0.0.0')])
def test_it_serves_until_it_is_told_to_end_and_leaves_nothing(end, host, model, tmp_path):
    config, checkpoint = model
    own = tmp_path / 'config.py'
    own.write_text(config.read_text() + "custom_imports = dict(imports=['tests.small_models'])\n")
    (tmp_path / 'temporary').mkdir()
    place = '--host', host, '--port', str(free_port())
    process = subprocess.Popen(
        [sys.executable, 'tools/explore.py', own, checkpoint, *place],
        cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=str(ROOT), TMPDIR=str(tmp_path / 'temporary')),
        # A shell that runs the tests in the background has them, and this, ignore Ctrl-C.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        name, address = process.stdout.readline().split()
        assert name == 'config:'
        assert address.endswith(f':{place[-1]}/')
        assert list((tmp_path / 'temporary').iterdir())
        assert b'What did the model do' in urllib.request.urlopen(address).read()
        process.send_signal(getattr(signal, end))
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out) == (0, 'the page is closed\n'), err
    # On another address than this machine's own, there is one line of warning.
    assert err.count('warning: everyone who reaches this address') == (host == '0.0.0.0')
    assert list((tmp_path / 'temporary').iterdir()) == []


def test_wrong_input_is_one_line_with_status_2(model, tmp_path, capsys):
    config, checkpoint = model
    (tmp_path / 'broken.pth').write_bytes(b'nothing')
    free, untested = ('--port', free_port()), ('--cfg-options', 'test_dataloader=None')
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        cases = [
            ((config,), 'CHECKPOINT'),
            # Before the model is loaded, which would fail, too.
            ((config, 'absent.pth', '--port', port), f'listen at 127.0.0.1:{port} ('),
            ((config, checkpoint, '--port', 0), "must be an integer >= 1, got '0'"),
            ((config, checkpoint, '--host', '192.0.2.1', *free), 'listen at 192.0.2.1:'),
            ((config, checkpoint, '--images', config, *free), "config.py' is no folder with"),
            ((config, tmp_path / 'broken.pth', *free), 'broken.pth'),
            ((config, checkpoint, *free, *untested), 'has no test_dataloader.dataset'),
        ]
        for arguments, message in cases:
            assert message in error_line(capsys, main, *arguments)

"""The command line of the page; what the page does is tested with the package."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from functools import partial

import pytest

from tests.helpers import ROOT, exit_status
from tests.models import write_model
from tools.explore import main

run_tool = partial(exit_status, main)


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    return write_model('DMNet', tmp_path_factory.mktemp('model'))


@pytest.mark.parametrize('end', [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_end_and_leaves_nothing(end, model, tmp_path):
    config, checkpoint = model
    own = tmp_path / 'config.py'
    own.write_text(config.read_text() + "custom_imports = dict(imports=['tests.models'])\n")
    address = f'http://127.0.0.1:{free_port()}/'
    port = address.rstrip('/').rsplit(':', 1)[1]
    process = subprocess.Popen(
        [sys.executable, 'tools/explore.py', own, checkpoint, '--port', port],
        cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=str(ROOT), TMPDIR=str(tmp_path / 'temporary')),
        # A shell that runs the tests in the background has them, and this, ignore Ctrl-C.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        (tmp_path / 'temporary').mkdir()
        assert process.stdout.readline() == f'config: {address}\n'
        assert list((tmp_path / 'temporary').iterdir())
        assert b'What did the model do' in urllib.request.urlopen(address).read()
        process.send_signal(end)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out) == (0, 'the page is closed\n'), err
    assert list((tmp_path / 'temporary').iterdir()) == []


def test_wrong_input_is_one_line_with_status_2(model, tmp_path, capsys):
    config, checkpoint = model
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        broken = tmp_path / 'broken.pth'
        broken.write_bytes(b'nothing')
        free = '--port', free_port()
        cases = [
            ((config,), 'CHECKPOINT'),
            ((config, checkpoint, '--port', port), f'no server can listen at 127.0.0.1:{port}: '),
            ((config, broken, '--port', port), f'no server can listen at 127.0.0.1:{port}: '),
            ((config, checkpoint, '--port', 70000), 'no server can listen at 127.0.0.1:70000: '),
            ((config, checkpoint, '--port', 0), "must be an integer >= 1, got '0'"),
            (
                (config, checkpoint, '--host', '192.0.2.1', *free),
                'no server can listen at 192.0.2.1:',
            ),
            ((config, checkpoint, '--images', config, *free), 'config.py is not a folder'),
            ((config, checkpoint, '--images', 'absent', *free), 'absent is not a folder'),
            ((config, checkpoint, '--device', 'tpu'), "got 'tpu'"),
            ((config, tmp_path / 'no.pth', *free), 'no.pth'),
            ((config, broken, *free), 'broken.pth'),
            ((tmp_path / 'no.py', checkpoint, *free), 'no.py is not a file'),
            (
                (config, checkpoint, *free, '--cfg-options', 'test_dataloader=None'),
                'has no test_dataloader.dataset',
            ),
        ]
        for arguments, message in cases:
            assert run_tool(*arguments) == 2, arguments
            (line,) = capsys.readouterr().err.splitlines()
            assert line.startswith('error: ')
            assert message in line


def test_help_has_an_example(capsys):
    assert run_tool('--help') == 0
    assert 'python tools/explore.py configs/dmnet/' in capsys.readouterr().out


def test_a_missing_gradio_is_named_with_the_command_that_installs_it(model, capsys, monkeypatch):
    monkeypatch.setattr('mmseg_ctx.visualization.explore.server.find_spec', lambda _: None)
    assert run_tool(*model, '--port', free_port()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('error: the page needs Gradio')
    assert 'pip install' in line

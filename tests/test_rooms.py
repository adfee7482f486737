"""Imports only point down: no room of the package knows of those above it."""

import ast
import subprocess
import sys

import pytest

from tests.helpers import ROOT

PACKAGE = ROOT / 'mmseg_ctx'
FOUNDATION = {'utils', 'ops', 'losses', 'heads', 'backbones', 'segmentors'}
# What each room imports of the others, at the most.
BELOW = dict(
    utils=set(),
    ops={'utils'},
    losses={'utils', 'ops'},
    heads={'utils', 'ops', 'losses'},
    backbones={'utils'},
    segmentors=FOUNDATION,
    evaluation=FOUNDATION,
    checkpoints=FOUNDATION,
    export=FOUNDATION,
    datasets=FOUNDATION | {'evaluation'},
    hooks=FOUNDATION | {'checkpoints'},
    visualization=FOUNDATION | {'checkpoints', 'datasets'},
    analysis=FOUNDATION | {'checkpoints', 'datasets', 'evaluation'},
)


def imported(path):
    """Return what a file imports of the package, anywhere in it, as paths within the package."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}:{node.lineno}'
            names = [f'{node.module}.{alias.name}' for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for package, *parts in (name.split('.') for name in names):
            if package == 'mmseg_ctx' and parts:
                yield parts


def test_every_room_is_known():
    assert {path.parent.name for path in PACKAGE.glob('*/__init__.py')} == BELOW.keys()


@pytest.mark.parametrize('room', BELOW)
def test_a_room_imports_only_those_below(room):
    allowed = BELOW[room] | {room}
    for path in (PACKAGE / room).rglob('*.py'):
        drawing = {'visualization'} if path.name == 'context_visualization.py' else set()
        assert {parts[0] for parts in imported(path)} <= allowed | drawing, path


def test_a_head_imports_no_other_head():
    for path in (PACKAGE / 'heads').glob('[!_]*.py'):
        others = {parts[1] for parts in imported(path) if parts[0] == 'heads'}
        assert others == ({'wrapping'} if path.name == 'cac.py' else set()), path


def test_the_package_does_without_what_tools_need():
    code = 'import sys, mmseg_ctx; print(*sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT)
    modules = set(done.stdout.split())
    assert 'mmseg_ctx.heads.cac' in modules
    unwanted = ('utils.commandline', 'utils.tables', 'visualization', 'analysis', 'export')
    assert not modules & {'matplotlib', *(f'mmseg_ctx.{name}' for name in unwanted)}

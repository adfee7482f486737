"""Imports only point down, and what is imported is declared by the installation."""

import ast
import itertools
import subprocess
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mmseg_ctx.utils.methods import METHODS
from tests.helpers import ROOT, setup_arguments

PACKAGE = ROOT / 'mmseg_ctx'
# utils ← ops ← losses, heads, backbones ← segmentors ← the rest.
LAYERS = ({'utils'}, {'ops'}, {'losses', 'heads', 'backbones'}, {'segmentors'})
CORE = set().union(*LAYERS)
# What each of the rest imports of the rest.
REST = dict(
    evaluation=set(),
    checkpoints=set(),
    datasets={'evaluation'},
    visualization={'checkpoints', 'datasets'},
    export={'checkpoints'},
    hooks={'visualization'},
    analysis={'checkpoints', 'datasets', 'evaluation'},
)
ROOMS = sorted(path.parent.name for path in PACKAGE.glob('*/__init__.py'))


def imports(path):
    """Yield the parts of each name that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}:{node.lineno}'
            names = [f'{node.module}.{alias.name}' for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name.split('.') for name in names)


def imported(path):
    """Return what a file imports of the package, as paths within the package."""
    return [parts[1:] for parts in imports(path) if parts[0] == 'mmseg_ctx' and parts[1:]]


@pytest.mark.parametrize('room', ROOMS)
def test_a_room_imports_only_those_below(room):
    allowed = {room} | (CORE | REST[room] if room in REST else set())
    for number, layer in enumerate(LAYERS):
        if room in layer:
            allowed |= set().union(*LAYERS[: number + 1])
    for path in (PACKAGE / room).rglob('*.py'):
        assert {parts[0] for parts in imported(path)} <= allowed, path


def test_a_head_imports_no_other_head():
    heads = {method.head for method in METHODS.values()}
    for method in METHODS:
        path = PACKAGE / f'heads/{method}.py'
        others = {parts[1] for parts in imported(path) if parts[0] == 'heads'}
        assert not others & (METHODS.keys() | heads), path


def test_the_package_does_without_what_tools_need():
    code = 'import sys, mmseg_ctx; print(*sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT)
    modules = set(done.stdout.split())
    assert 'mmseg_ctx.heads.cac' in modules
    unwanted = ('utils.commandline', 'utils.tables', 'visualization', 'analysis', 'export')
    assert not modules & {'matplotlib', *(f'mmseg_ctx.{name}' for name in unwanted)}


@pytest.mark.parametrize('folder', ['mmseg_ctx', 'tools'])
def test_what_is_imported_is_declared(folder):
    arguments = setup_arguments()
    declared = [
        *arguments['install_requires'],
        *itertools.chain(*arguments['extras_require'].values()),
    ]
    declared = {canonicalize_name(Requirement(each).name) for each in declared}
    distributions = metadata.packages_distributions()
    imported = {parts[0] for path in (ROOT / folder).rglob('*.py') for parts in imports(path)}
    imported -= {'mmseg_ctx', *sys.stdlib_module_names}
    assert 'torch' in imported
    for name in imported:
        # What is not installed has the name that is imported.
        found = distributions.get(name, [name])
        assert declared & set(map(canonicalize_name, found)), name

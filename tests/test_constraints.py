"""What the package needs: all of it declared, and pinned to versions that fit each other."""

import ast
import itertools
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.helpers import ROOT, setup_arguments

FILES = ('constraints.txt', 'constraints-upstream.txt')
# The environment comes with its own.
NOT_PINNED = ('pip', 'mmseg-ctx')


def read_pins(file):
    """Return the versions that a file pins for this Python."""
    lines = (ROOT / file).read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith('#')]
    pins = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
    assert all(str(pin.specifier).startswith('==') for pin in pins)
    versions = {canonicalize_name(pin.name): str(pin.specifier)[2:] for pin in pins}
    assert len(versions) == len(pins), 'a package is pinned twice'
    return versions


def installed_requirements(*extras):
    """Yield what this package needs with these extras, and what that needs, as installed."""
    todo, seen = [('mmseg-ctx', extra) for extra in extras], set()
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for text in metadata.requires(name) or ():
            requirement = Requirement(text)
            applies = requirement.marker is None or requirement.marker.evaluate(dict(extra=extra))
            needed = canonicalize_name(requirement.name)
            if applies and is_installed(needed):
                yield needed, requirement.specifier
                todo += [(needed, each) for each in ('', *requirement.extras)]


def is_installed(name):
    try:
        return bool(metadata.distribution(name))
    except metadata.PackageNotFoundError:
        return False


def test_every_installed_package_is_pinned_and_the_pins_fit_each_other():
    maintained = is_installed('onedl-mmsegmentation')
    pins = read_pins(FILES[0] if maintained else FILES[1])
    extras = ('', 'onedl', 'dev', 'docs') if maintained else ('', 'openmmlab', 'test')
    needed = [each for each in installed_requirements(*extras) if each[0] not in NOT_PINNED]
    assert len({name for name, _ in needed}) > 40
    assert {name for name, _ in needed} - pins.keys() == set()
    for name, specifier in needed:
        assert specifier.contains(pins[name], prereleases=True), (name, specifier, pins[name])


def imported_modules(folder):
    """Return the top-level names of all that the files of a folder import."""
    names = set()
    for path in folder.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(node.module.split('.')[0])
    return names - set(sys.stdlib_module_names)


@pytest.mark.parametrize('folder', ['mmseg_ctx', 'tools'])
def test_what_is_imported_is_declared(folder):
    arguments = setup_arguments()
    declared = [
        *arguments['install_requires'],
        *itertools.chain(*arguments['extras_require'].values()),
    ]
    declared = {canonicalize_name(Requirement(each).name) for each in declared}
    distributions = metadata.packages_distributions()
    imported = imported_modules(ROOT / folder) - {'mmseg_ctx'}
    assert 'torch' in imported
    for name in imported:
        # What is not installed has the name that is imported.
        found = distributions.get(name, [name])
        assert declared & set(map(canonicalize_name, found)), name

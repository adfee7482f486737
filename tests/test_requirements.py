"""Whatever the package imports, its installation declares."""

import ast
import itertools
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.helpers import ROOT, setup_arguments


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

"""Whatever the package imports, its installation declares."""

import itertools
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.helpers import ROOT, setup_arguments
from tests.test_rooms import imports


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

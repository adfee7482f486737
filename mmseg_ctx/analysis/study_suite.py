"""The suites that a study can train, each a table file with a row for each config."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import yaml

from mmseg_ctx.utils.errors import value_errors

SUITES = Path(__file__).with_name('studies')
EMPTY = MappingProxyType({})


class Row(NamedTuple):
    """A config that is trained once for each seed.

    Attributes:
        name (str): Name in the table, and of the folder of the runs.
        config (str): Path of a config, below the package's ``configs/`` or anywhere.
        overrides (dict): Settings in place of the config's, with dotted keys as in
            ``--cfg-options``. Default: none.
        shows (str): What the row is for. Default: nothing.
        group (str): Name that ``--rows`` accepts for all rows of the group. Default: none.
        seeds (Sequence[int]): Seeds. Default: 0, 1 and 2.
        by_default (bool): Whether a study without ``--rows`` trains the row. Default: True.
        iterations (int | None): How long to train. Default: as the config says.
        validate_every (int | None): Iterations between validations, for the curves of the report.
            Default: no validation.
        start_from (str | None): Name of an earlier row. Its last checkpoint with the same seed
            gives the first weights. Default: what the config says.
    """

    name: str
    config: str
    overrides: Mapping = EMPTY
    shows: str = ''
    group: str = ''
    seeds: tuple = (0, 1, 2)
    by_default: bool = True
    iterations: int | None = None
    validate_every: int | None = None
    start_from: str | None = None


class Quick(NamedTuple):
    """The part of a suite that ``--quick`` trains.

    Attributes:
        rows (Sequence[str]): Names of the rows.
        seeds (Sequence[int]): Seeds. Default: 0.
        iterations (int | None): How long to train each row. Default: as in the whole study.
    """

    rows: tuple
    seeds: tuple = (0,)
    iterations: int | None = None


class Suite(NamedTuple):
    """A study's rows, and how its report shows them.

    Attributes:
        title (str): The data that all rows are trained on.
        rows (Sequence[Row]): Rows in the order of the table.
        quick (Quick): The rows of ``--quick``.
        out (str): Folder of the study if none is named.
        metrics (dict[str, str]): Names of metrics and headings of their columns. Default: every
            metric whose name begins with ``mIoU``.
        note (str): How long the study takes, for the help text. Default: nothing.
    """

    title: str
    rows: tuple
    quick: Quick
    out: str
    metrics: Mapping = EMPTY
    note: str = ''

    def groups(self):
        """Return the names of the groups of rows: list[str]."""
        return list(dict.fromkeys(row.group for row in self.rows if row.group))

    def select(self, names):
        """Return the rows with these names or in these groups, and the rows they start from.

        No names stand for the rows that are trained by default. An unknown name is a ValueError.
        """
        known = [*(row.name for row in self.rows), *self.groups()]
        for name in names:
            if name not in known:
                raise ValueError(f'--rows must be among {", ".join(known)}, got {name!r}')
        if names:
            chosen = {row.name for row in self.rows if {row.name, row.group} & set(names)}
        else:
            chosen = {row.name for row in self.rows if row.by_default}
        # A row comes after the one that it starts from.
        for row in reversed(self.rows):
            if row.name in chosen and row.start_from:
                chosen.add(row.start_from)
        return [row for row in self.rows if row.name in chosen]


def suite_names():
    """Return the names of the suites that travel with the package."""
    return sorted(path.stem for path in SUITES.glob('*.yml'))


def read_suite(name):
    """Read a suite from its YAML file.

    The file has the attributes of :class:`Suite`, and those of a :class:`Row` in each entry of
    ``rows``. Its entry ``defaults`` has attributes of every row.

    Args:
        name (str): One of :func:`suite_names`, or the path of a file.

    Returns:
        Suite: The content of the file.

    Raises:
        ValueError: The suite does not exist, or its file is wrong.
    """
    path = Path(name) if Path(name).suffix else SUITES / f'{name}.yml'
    if not path.is_file():
        known = ', '.join(suite_names())
        raise ValueError(f'the suite must be among {known} or a table file, got {name!r}')
    with value_errors(f'{path} cannot be read as a suite'):
        content = yaml.safe_load(path.read_text())
        defaults = content.pop('defaults', {})
        rows = tuple(Row(**{**defaults, **row}) for row in content.pop('rows'))
        quick = Quick(**content.pop('quick'))
        content.setdefault('out', f'work_dirs/study-{path.stem}')
        suite = Suite(rows=rows, quick=quick, **content)
        _check_names(suite)
    return suite


def _check_names(suite):
    earlier = set()
    for row in suite.rows:
        if row.name in earlier:
            raise ValueError(f'two rows are called {row.name!r}')
        if row.start_from not in (None, *earlier):
            raise ValueError(
                f'row {row.name!r} must start from an earlier row, got {row.start_from!r}'
            )
        earlier.add(row.name)
    for name in suite.quick.rows:
        if name not in earlier:
            raise ValueError(f'quick names a row that is not there, {name!r}')

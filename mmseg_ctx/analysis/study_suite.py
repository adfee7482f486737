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
        overrides (dict): Settings, with dotted keys as in ``--cfg-options``. Default: none.
        shows (str): What the row is for. Default: nothing.
        group (str): Name that ``--rows`` accepts for all rows of the group. Default: none.
        seeds (Sequence[int]): Seeds. Default: 0, 1 and 2.
        by_default (bool): Whether a study without ``--rows`` trains the row. Default: True.
        iterations (int | None): How long to train. Default: as the config says.
        validate_every (int | None): Iterations between validations, for curves. Default: none.
        start_from (str | None): An earlier row, whose last checkpoint with the same seed gives the
            first weights. Default: what the config says.
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


class Suite(NamedTuple):
    """A study's rows, and how its report shows them.

    Attributes:
        title (str): The data that all rows are trained on.
        rows (Sequence[Row]): Rows in the order of the table.
        quick (Sequence[Row]): The rows of ``--quick``, with fewer seeds or iterations.
        out (str): Folder of the study if none is named.
        metrics (dict[str, str]): Metrics to show and their headings. Default: every ``mIoU*``.
        note (str): How long the study takes, for the help text. Default: nothing.
    """

    title: str
    rows: tuple
    quick: tuple
    out: str
    metrics: Mapping = EMPTY
    note: str = ''


def select(rows, names):
    """Return the rows of these names or groups, by default those trained by default: list[Row].

    The rows that they start from come with them. An unknown name is a ValueError.
    """
    known = (*(row.name for row in rows), *groups(rows))
    for name in names:
        if name not in known:
            raise ValueError(f'--rows must be among {", ".join(known)}, got {name!r}')
    chosen, starts = [], set()
    for row in reversed(rows):  # a row comes after the one that it starts from
        asked = {row.name, row.group} & set(names) if names else row.by_default
        if asked or row.name in starts:
            chosen.append(row)
            starts.add(row.start_from)
    return chosen[::-1]


def groups(rows):
    """Return the names of the groups of rows: list[str]."""
    return list(dict.fromkeys(row.group for row in rows if row.group))


def suite_names():
    """Return the names of the suites that travel with the package."""
    return sorted(path.stem for path in SUITES.glob('*.yml'))


def read_suite(name):
    """Read a suite from its YAML file, one of :func:`suite_names` or the path of another.

    The file has the attributes of :class:`Suite`, and those of a :class:`Row` in each entry of
    ``rows``; ``defaults`` has attributes of every row. ``quick`` has the names of its ``rows``,
    and their ``seeds``, by default only 0, and ``iterations``, by default their own.

    Raises:
        ValueError: The suite does not exist, or its file is wrong.
    """
    path = Path(name) if Path(name).suffix else SUITES / f'{name}.yml'
    if not path.is_file():
        known = ', '.join(suite_names())
        raise ValueError(f'the suite must be among {known} or a table file, got {name!r}')
    with value_errors(f'{path} cannot be read as a suite'):
        content = {'out': f'work_dirs/study-{path.stem}', **yaml.safe_load(path.read_text())}
        defaults = content.pop('defaults', {})
        rows = tuple(Row(**{**defaults, **row}) for row in content.pop('rows'))
        _check_names(rows)
        quick = _quick(rows, **content.pop('quick'))
        return Suite(rows=rows, quick=quick, **content)


def _check_names(rows):
    earlier = set()
    for row in rows:
        if row.name in earlier:
            raise ValueError(f'two rows are called {row.name!r}')
        if row.start_from not in (None, *earlier):
            raise ValueError(
                f'row {row.name!r} must start from an earlier row, got {row.start_from!r}'
            )
        earlier.add(row.name)


def _quick(every, rows, seeds=(0,), iterations=None):
    for name in rows:
        if name not in {row.name for row in every}:
            raise ValueError(f'quick names a row that is not there, {name!r}')
    return tuple(
        row._replace(seeds=seeds or row.seeds, iterations=iterations or row.iterations)
        for row in select(every, rows)
    )

"""What a study trains: a suite of rows, read from a table file."""

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
        name (str): The row's name in the table, and of the folder of its runs.
        config (str): A file of the package's configs, or the path of another one.
        overrides (dict): What differs from the config, with dotted keys as in MMEngine's
            ``--cfg-options``. Default: nothing.
        shows (str): What the row is for. Default: nothing.
        group (str): ``--rows`` accepts the name of a group in place of its rows. Default: none.
        seeds (Sequence[int]): Default: 0, 1 and 2.
        by_default (bool): Whether it is trained where no rows are named. Default: True.
        iterations (int | None): How long to train. Default: as the config says.
        validate_every (int | None): Also evaluate after every so many iterations, for the curves
            of the report. Default: do not.
        start_from (str | None): Name of the row from whose last checkpoint with the same seed
            the weights are loaded. Default: as the config says.
        tests (dict[str, dict]): Names of the tests and the overrides with which the trained
            weights are tested. Default: the prior, the refined and the oracle classifier of a
            model with a ``ContextAwareClassifierHead``, else one test, ``'model'``.
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
    tests: Mapping = EMPTY


class Quick(NamedTuple):
    """The part of a suite that ``--quick`` trains.

    Attributes:
        rows (Sequence[str]): Their names.
        seeds (Sequence[int]): Default: 0 alone.
        iterations (int | None): How long to train each. Default: as long as in the whole study.
    """

    rows: tuple
    seeds: tuple = (0,)
    iterations: int | None = None


class Suite(NamedTuple):
    """A study's rows, and how its report shows them.

    Attributes:
        title (str): The data that all rows are trained on.
        rows (Sequence[Row]): In the order of the table.
        quick (Quick): What ``--quick`` trains.
        out (str): The default folder.
        metrics (dict[str, str]): Names of metrics and the headings of their columns. Default:
            every metric whose name begins with ``mIoU``.
        facts (Sequence[str]): Lines below the table, beside the one on mean and deviation.
        note (str): What the default rows take, for the help text.
    """

    title: str
    rows: tuple
    quick: Quick
    out: str
    metrics: Mapping = EMPTY
    facts: tuple = ()
    note: str = ''

    def groups(self):
        """Return the names of the groups of rows: list[str]."""
        return list(dict.fromkeys(row.group for row in self.rows if row.group))

    def select(self, names):
        """Return the rows with these names or in these groups, by default those trained by default.

        A row's ``start_from`` comes with it.

        Raises:
            ValueError: There is no such row or group.
        """
        known = [*(row.name for row in self.rows), *self.groups()]
        for name in names:
            if name not in known:
                raise ValueError(f'--rows must be among {", ".join(known)}, got {name!r}')
        if names:
            chosen = {row.name for row in self.rows if {row.name, row.group} & set(names)}
        else:
            chosen = {row.name for row in self.rows if row.by_default}
        # A row is listed behind the one that it starts from.
        for row in reversed(self.rows):
            if row.name in chosen and row.start_from:
                chosen.add(row.start_from)
        return [row for row in self.rows if row.name in chosen]


def suite_names():
    """Return the names of the suites that travel with the package."""
    return sorted(path.stem for path in SUITES.glob('*.yml'))


def read_suite(name):
    """Read a suite.

    The file is YAML: the attributes of :class:`Suite`, with those of a :class:`Row` in each entry
    of ``rows``. Its ``defaults`` are those of every row.

    Args:
        name (str): One of :func:`suite_names`, or the path of a table file.

    Returns:
        Suite: Its content.

    Raises:
        ValueError: There is no such suite, or the file is not as it must be.
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

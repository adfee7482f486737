"""The methods of this package, each listed once, in ``mmseg_ctx/methods.yml``."""

from dataclasses import dataclass, field
from pathlib import Path

import yaml


@dataclass(frozen=True)
class Method:
    """An entry of ``methods.yml``, whose head says what each attribute is."""

    name: str
    title: str
    head: str
    summary: str
    pixel: str
    paper: dict
    suites: dict
    around: str = ''
    tests: dict = field(default_factory=dict)
    compared: dict = field(default_factory=dict)
    note: str = ''
    costs: list = field(default_factory=list)

    @property
    def citation(self):
        """The paper in one line: authors, title, venue and year."""
        first = self.paper['authors'][0].split(',')[0]
        return f'{first} et al., {self.paper["title"]}, {self.paper["venue"]} {self.paper["year"]}'

    @property
    def label(self):
        """The name in tables: the title, and for a wrapper the head that it is around."""
        return f'{self.title} around {self.around}' if self.around else self.title


def _read():
    entries = yaml.safe_load(Path(__file__).parents[1].joinpath('methods.yml').read_text('utf-8'))
    return {name: Method(name, **entry) for name, entry in entries.items()}


METHODS = _read()
# Those that are a decode head, and not around one.
HEAD_METHODS = {name: method for name, method in METHODS.items() if not method.around}

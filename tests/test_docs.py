"""The pages of the site are reachable, and find what they show of the repository."""

import re

import pytest

from tests.helpers import ROOT

DOCS = ROOT / 'docs'
PAGES = sorted(path for path in DOCS.rglob('*.md') if '_build' not in path.parts)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_what_a_page_shows_is_there(page):
    text = page.read_text()
    for path, ends in re.findall(r'^<!-- include (\S+)(.*) -->$', text, re.MULTILINE):
        included = (ROOT / path).read_text()
        assert all(end in included for end in re.findall(r'"(.+?)"', ends))
    for path in re.findall(r'!\[[^\]]*\]\((?!http)([^)]+)\)', text):
        assert (page.parent / path).is_file()


def test_every_page_is_in_the_navigation():
    linked = {DOCS / 'index.md'}
    for page in PAGES:
        for tree in re.findall(r'```{toctree}\n(.*?)```', page.read_text(), re.DOTALL):
            names = [line for line in tree.splitlines() if line and not line.startswith(':')]
            linked |= {each for name in names for each in page.parent.glob(f'{name}.md')}
    assert linked == set(PAGES)

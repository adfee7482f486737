"""The pages of the site are reachable, and find what they show of the repository."""

import re

import pytest

from tests.helpers import ROOT

DOCS = ROOT / 'docs'
PAGES = sorted(path for path in DOCS.rglob('*.md') if '_build' not in path.parts)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_what_a_page_shows_is_there(page):
    text = page.read_text()
    for path, *ends in re.findall(r'^<!-- include (\S+)(?: \w+ "(.+?)")? -->$', text, re.MULTILINE):
        included = (ROOT / path).read_text()
        assert all(end in included for end in ends)
    for path in re.findall(r'!\[[^\]]*\]\((?!http)([^)]+)\)', text):
        assert (page.parent / path).is_file()


def test_included_pages_link_to_pages_of_the_site():
    # Sphinx, which the tests do not need, refuses any other.
    texts = {page: page.read_text() for page in PAGES}
    whole = {
        match[1]
        for text in texts.values()
        if (match := re.fullmatch(r'<!-- include (\S+) -->', text.strip()))
    }
    assert {'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md'} <= whole
    for path in whole:
        links = re.findall(r'\]\((?!http)([^)#]+\.md)', (ROOT / path).read_text())
        for link in links:
            target = (ROOT / path).parent / link
            assert link in whole or target.resolve().is_relative_to(DOCS), (path, link)


def test_every_page_is_in_the_navigation():
    linked = {DOCS / 'index.md'}
    for page in PAGES:
        for tree in re.findall(r'```{toctree}\n(.*?)```', page.read_text(), re.DOTALL):
            names = [line for line in tree.splitlines() if line and not line.startswith(':')]
            linked |= {each for name in names for each in page.parent.glob(f'{name}.md')}
    assert linked == set(PAGES)

"""What pages say of the methods, from ``mmseg_ctx/methods.yml``.

``python docs/method_tables.py`` writes it into README.md and CITATION.cff. The site's pages get
their tables when the site is built.
"""

import json
import re
from pathlib import Path

from mmseg_ctx.utils.methods import METHODS

ROOT = Path(__file__).parents[1]
TABLE = re.compile(r'(?<=<!-- methods -->\n\n).*?(?=\n<!-- end of methods -->)', re.DOTALL)
REFERENCES = re.compile(r'(?<=\nreferences:\n).*', re.DOTALL)


def repository_table():
    """Return README's table of the methods: str."""
    return _table(
        ('method', 'what it does', 'name in a config', 'paper'),
        [
            (f'[{each.title}](configs/{name})', each.summary, f'`{each.head}`', each.citation)
            for name, each in METHODS.items()
        ],
    )


def pages_table():
    """Return the table of the methods with links to their pages of the site: str."""
    return _table(
        ('method', 'what it does', 'name in a config'),
        [
            (f'[{each.title}](methods/{name}.md)', each.summary, f'`{each.head}`')
            for name, each in METHODS.items()
        ],
    )


def pixel_table():
    """Return the table of what the page in the browser shows for a pixel: str."""
    return _table(
        ('method', 'what the page shows for a pixel'),
        [(each.title, each.pixel) for each in METHODS.values()],
    )


# By the comment in a page that stands in the place of what the function returns.
IN_PAGES = {
    '<!-- methods: pages -->': pages_table,
    '<!-- methods: pixel -->': pixel_table,
}


def _table(titles, rows):
    lines = (titles, ['---'] * len(titles), *rows)
    return ''.join(f'| {" | ".join(cells)} |\n' for cells in lines)


def bibtex(method):
    """Return the BibTeX entry of a method's paper: str."""
    paper = method.paper
    kind, series = ('article', 'journal') if 'journal' in paper else ('inproceedings', 'booktitle')
    first = paper['authors'][0].split(',')[0].lower()
    fields = dict(
        title=f'{{{paper["title"]}}}',  # the inner braces keep the capitals
        author=' and '.join(paper['authors']),
        year=paper['year'],
        url=paper['url'],
    )
    fields[series] = paper.get('journal') or paper['conference']
    lines = ''.join(f'  {name} = {{{value}}},\n' for name, value in fields.items())
    return f'@{kind}{{{first}{paper["year"]}{method.name},\n{lines}}}\n'


def references():
    """Return the papers as entries of ``references`` in a CITATION.cff: str."""
    lines = []
    for method in METHODS.values():
        paper = method.paper
        names = [name.split(', ') for name in paper['authors']]
        lines += [
            f'- type: {"article" if "journal" in paper else "conference-paper"}',
            f'  title: {json.dumps(paper["title"])}',
            '  authors:',
            *(f'  - {{family-names: {family}, given-names: {given}}}' for family, given in names),
            f'  year: {paper["year"]}',
            f'  journal: {paper["journal"]}'
            if 'journal' in paper
            else f'  conference: {{name: {paper["conference"]}}}',
            f'  url: {paper["url"]}',
        ]
    return '\n'.join(lines) + '\n'


def written():
    """Return README.md and CITATION.cff as they should be: dict[Path, str]."""
    readme, citation = ROOT / 'README.md', ROOT / 'CITATION.cff'
    return {
        readme: TABLE.sub(lambda _: repository_table(), readme.read_text()),
        citation: REFERENCES.sub(lambda _: references(), citation.read_text()),
    }


if __name__ == '__main__':
    for path, text in written().items():
        path.write_text(text)

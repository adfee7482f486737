"""Settings of the documentation's site; `make docs` builds it into docs/_build."""

import os
import re
import sys
import warnings
from functools import cache
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

from mmseg_ctx.utils.methods import METHODS
from mmseg_ctx.version import __version__

sys.path.insert(0, str(Path(__file__).parent))
from method_tables import IN_PAGES, bibtex

warnings.filterwarnings('ignore', module=r'(mmcv|mmengine|mmseg)(\.|$)')

project = 'mmseg-ctx'
version = release = __version__
copyright = 'the authors of mmseg-ctx'
extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    'sphinx_copybutton',
]
exclude_patterns = ['_build']

html_theme = 'furo'
html_title = f'{project} {version}'
html_theme_options = dict(navigation_with_keys=True)
html_static_path = ['_static']
html_css_files = ['style.css']
html_show_sphinx = False
html_show_sourcelink = False
html_math_renderer = 'mathml'

myst_enable_extensions = ['amsmath', 'colon_fence', 'dollarmath']
myst_heading_anchors = 3

autodoc_member_order = 'bysource'
autodoc_default_options = dict(members=True)
# The list of a page's contents shows forward() and not ClassName.forward().
toc_object_entries_show_parents = 'hide'
# Types are in the docstrings.
autodoc_typehints = 'none'
# An attribute that a docstring describes is not listed a second time.
napoleon_use_ivar = True


DOCS = Path(__file__).parent
ROOT = DOCS.parent
INCLUDE = re.compile(r'^<!-- include (\S+)(?: from "(.+?)")?(?: to "(.+?)")? -->$', re.MULTILINE)
NUMBER = re.compile(r'[\d.,]+( ± [\d.,]+)?( / [\d.,]+)?')
NUMBER_AND_RANGE = re.compile(r'([\d.]+) (\([\d.]+–[\d.]+\))')
LOCAL_LINK = re.compile(r'(!?\[[^\]]*\])\((?!\w+:|#)([^)]+)\)')


def setup(app):
    """Include parts of other files, show the methods, let tables fit and equations be MathML.

    Browsers show MathML without a script from elsewhere.
    """
    app.connect('source-read', _include)
    app.connect('source-read', _show_methods)
    app.connect('doctree-read', _keep_numbers_whole)
    app.connect('autodoc-skip-member', _skip_fields)
    app.add_html_math_renderer('mathml', (_inline_math, None), (_block_math, None))


def _keep_numbers_whole(app, doctree):
    """Mark the numbers in tables, such as 40.0 ± 0.7, which the style sheet keeps on one line."""
    for cell in doctree.findall(nodes.entry):
        text = cell.astext()
        if NUMBER.fullmatch(text):
            cell['classes'].append('number')
        elif match := NUMBER_AND_RANGE.fullmatch(text):
            cell[0].children = [
                nodes.inline(part, part, classes=['number']) for part in match.groups()
            ]
            cell[0].insert(1, nodes.Text(' '))


def _skip_fields(app, what, name, obj, skip, options):
    """Skip the fields of a named tuple, since its docstring describes them."""
    return True if type(obj).__name__ == '_tuplegetter' else None


def _include(app, docname, source):
    """Replace ``<!-- include FILE from "TEXT" to "TEXT" -->`` by that part of a page."""

    def part(match):
        path, start, end = match.groups()
        text = (ROOT / path).read_text()
        text = text[text.index(start) if start else 0 : text.index(end) if end else None]
        return LOCAL_LINK.sub(lambda link: _moved(link, ROOT / path, docname), text)

    source[0] = INCLUDE.sub(part, source[0])


def _show_methods(app, docname, source):
    """Show the tables of the methods, and on the page of a method how its paper is cited."""
    for comment, table in IN_PAGES.items():
        source[0] = source[0].replace(comment, table())
    folder, _, name = docname.rpartition('/')
    if folder == 'methods':
        source[0] += f'\n## Citation\n\n```bibtex\n{bibtex(METHODS[name])}```\n'


def _moved(link, path, docname):
    """Return a link of an included page for the page that includes it, a folder's as its text."""
    text, target = link.groups()
    target = path.parent / target
    if target.is_dir():
        return text[1:-1]
    target = _whole_pages().get(target, target)
    return f'{text}({os.path.relpath(target, (DOCS / docname).parent)})'


@cache
def _whole_pages():
    """Return the pages of the site that are a whole page of the repository, by its path."""
    pages = {page: INCLUDE.fullmatch(page.read_text().strip()) for page in DOCS.rglob('*.md')}
    return {ROOT / match[1]: page for page, match in pages.items() if match and not match[3]}


def _inline_math(translator, node):
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _block_math(translator, node):
    formula = tex2mathml(node.astext(), as_block=True)
    translator.body.append(f'<div class="math">{formula}</div>')
    raise nodes.SkipNode

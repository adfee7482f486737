"""Each method has all its parts, and what is written of the methods is current."""

import runpy

import pytest
import yaml
from mmengine.config import Config
from mmseg.registry import MODELS

from mmseg_ctx.datasets.new_config import BACKBONES
from mmseg_ctx.utils.methods import METHODS
from tests.helpers import ROOT

TABLES = runpy.run_path(str(ROOT / 'docs/method_tables.py'))
# Of which each method has one, and of which there is none without a method.
PARTS = ('configs/{}/metafile.yml', 'configs/{}/README.md', 'docs/methods/{}.md')


@pytest.mark.parametrize('part', PARTS)
def test_every_method_has_its_part_and_every_part_its_method(part):
    begin, end = part.split('{}')
    found = {
        path.relative_to(ROOT).as_posix().removeprefix(begin).removesuffix(end)
        for path in ROOT.glob(part.format('*'))
    }
    differ = ', '.join(found ^ METHODS.keys())
    assert not differ, f'{part.format("NAME")} or the entry of methods.yml is missing for {differ}'


def test_every_file_with_a_head_is_a_methods():
    heads = ROOT.glob('mmseg_ctx/heads/*.py')
    registering = {path.stem for path in heads if 'MODELS.register_module' in path.read_text()}
    assert registering == METHODS.keys(), 'methods.yml and heads/ name different files'


@pytest.mark.parametrize('method', METHODS.values(), ids=METHODS)
def test_an_entry_names_what_is_there(method):
    for path in (f'tests/heads/test_{method.name}.py', f'tests/configs/zoo/{method.name}.tsv'):
        assert (ROOT / path).is_file(), f'there is no {path}'
    assert MODELS.get(method.head).__module__ == f'mmseg_ctx.heads.{method.name}'
    for encoder in () if method.around else BACKBONES.values():
        models = f'configs/_base_/models/{method.name}_{encoder}*.py'
        assert list(ROOT.glob(models)), f'there is no {models}, which tools/new_config.py reads'
    for config in method.suites.values():
        head = Config.fromfile(ROOT / 'configs' / config).model.decode_head
        assert head.type == method.head
    index = yaml.safe_load((ROOT / 'configs' / method.name / 'metafile.yml').read_text())
    (collection,) = index['Collections']
    paper = dict(Title=method.paper['title'], URL=method.paper['url'])
    assert (collection['Name'], collection['Paper']) == (method.title, paper)


def test_written_files_are_current():
    for path, text in TABLES['written']().items():
        assert path.read_text() == text, 'python docs/method_tables.py writes it again'
        assert all(each.paper['title'] in text for each in METHODS.values())


def test_the_papers_of_the_citation_are_those_of_the_methods():
    papers = yaml.safe_load((ROOT / 'CITATION.cff').read_text())['references']
    titles = [method.paper['title'] for method in METHODS.values()]
    assert [paper['title'] for paper in papers] == titles
    for paper, method in zip(papers, METHODS.values(), strict=True):
        assert {key: paper[key] for key in ('title', 'year', 'url')}.items() <= method.paper.items()
        names = [f'{each["family-names"]}, {each["given-names"]}' for each in paper['authors']]
        assert names == method.paper['authors']


def test_pages_ask_only_for_tables_that_there_are():
    text = ''.join(path.read_text() for path in ROOT.glob('docs/*.md'))
    assert text.count('<!-- methods: ') == sum(map(text.count, TABLES['IN_PAGES'])) > 0

"""The model index and the folders' READMEs: valid, complete, and true to the configs."""

import re

import modelindex
import pytest
from mmengine import Config

from tests.configs.test_zoo import CAMVID, CONFIGS, PUBLIC, datasets, heads, load
from tests.helpers import ROOT

# CamVid's configs among them, but for those of the FCN, which is no method of ours.
INDEXED = [
    *(path for path in PUBLIC if '-fsdp' not in path),
    *(path for path in CAMVID if not path.startswith('fcn/')),
]
METHODS = ('acnet', 'cac', 'cacnet', 'ctnet', 'dmnet')


@pytest.fixture(scope='module')
def index():
    index = modelindex.load(str(ROOT / 'model-index.yml'))
    index.build_models_with_collections()
    return index


def test_loader_finds_nothing_wrong(index):
    assert index.check(silent=True) == []
    assert len(index.collections) == len(METHODS)


def test_every_public_config_is_a_model(index):
    configs = [model.config.removeprefix('configs/') for model in index.models]
    assert sorted(configs) == sorted(INDEXED)


def test_entries_are_those_of_the_config(index):
    for model in index.models:
        assert model.config.endswith(f'/{model.name}.py')
        config = load(model.config.removeprefix('configs/'))
        gpus = int(re.search(r'_(\d+)xb', model.name).group(1))
        batch = gpus * config.train_dataloader.batch_size
        assert model.metadata.data['Batch Size'] == batch
        layers = re.search(r'R-(\d+)', model.metadata.architecture[0])
        if layers:
            assert int(layers.group(1)) == config.model.backbone.depth


def test_every_figure_is_marked_as_the_papers(index):
    figures = [
        (name, value)
        for model in index.models
        for result in model.results or []
        for name, value in result.metrics.items()
    ]
    assert len(figures) > 60
    for name, value in figures:
        assert name in ('mIoU(paper)', 'mIoU(ms+flip, paper)', 'mIoU(test server, paper)')
        assert 10 < value < 90


def test_figures_are_those_of_the_configs_comment(index):
    for model in index.models:
        comment = ''.join(re.findall(r'^#.*\n', (ROOT / model.config).read_text(), re.MULTILINE))
        for result in model.results or []:
            for value in result.metrics.values():
                assert re.search(rf'\b{value}0?\b', comment), (model.name, value, comment)


@pytest.mark.parametrize('method', METHODS)
def test_readme_links_to_files_and_names_every_config(method):
    folder = CONFIGS / method
    links = re.findall(r'\]\(([^)#]+)\)', (folder / 'README.md').read_text())
    local = [link for link in links if not link.startswith('http')]
    assert [link for link in local if not (folder / link).exists()] == []
    listed = [
        path.removeprefix(f'{method}/')
        for path in (*PUBLIC, *CAMVID)
        if path.startswith(f'{method}/')
    ]
    assert set(listed) <= set(local)


@pytest.mark.parametrize('method', METHODS)
def test_readme_names_the_last_checkpoint(method):
    text = (CONFIGS / method / 'README.md').read_text()
    name = re.search(r'^NAME=(.+)$', text, re.MULTILINE).group(1)
    iterations = Config.fromfile(CONFIGS / method / f'{name}.py').train_cfg.max_iters
    assert f'work_dirs/$NAME/iter_{iterations}.pth' in text


@pytest.mark.parametrize('method', METHODS)
def test_readme_declares_what_the_papers_do_not_say(method):
    text = ' '.join((CONFIGS / method / 'README.md').read_text().split())
    for path in (path for path in PUBLIC if path.startswith(f'{method}/')):
        config = load(path)
        backbone, auxiliary = config.model.backbone, config.model.get('auxiliary_head')
        if backbone.type == 'ResNetV1c':
            assert '`ResNetV1c`' in text
        if max(backbone.get('dilations', (1,))) > 1 and 'contract_dilation' in backbone:
            assert f'`contract_dilation={backbone.contract_dilation}`' in text
        if auxiliary:
            assert re.search(rf'(weight|0\.4)[^.]* {auxiliary.loss_decode.loss_weight}\b', text)
        for head in heads(config):
            dropout = head.get('dropout_ratio', 0.1)
            assert (f'dropout of {dropout}' if dropout > 0 else 'dropout') in text
        scale = next(s.scale for s in config.test_pipeline if s.type == 'Resize')
        # A square bounds the long side, any other scale the short one.
        side = 'long' if scale[0] == scale[1] else 'short'
        assert re.search(rf'{side} side of [^.:]*{scale[1]}', text)
        for dataset in datasets(config.train_dataloader):
            steps = {step.type: step for step in dataset.pipeline}
            assert f'`cat_max_ratio={steps["RandomCrop"].cat_max_ratio}`' in text
            # CAC has its baselines' augmentation, as the paper says.
            if method != 'cac' and 'RandomResize' in steps:
                assert steps['RandomResize'].scale == scale
                low, high = steps['RandomResize'].ratio_range
                assert re.search(rf'\b{low} to {high}\b', text)
                assert re.search(r'random scale in training.{,20} multiplies', text)
    assert 'scale 1.0 is the image as it is in its file' in text

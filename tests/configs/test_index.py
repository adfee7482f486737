"""The model index: valid, complete, and true to the configs."""

import re

import modelindex
import pytest

from mmseg_ctx.utils.methods import METHODS
from tests.configs.zoo import PATHS, load
from tests.helpers import ROOT, setup_arguments

# The FCN is no method of ours, and the scenes are no benchmark.
INDEXED = [
    path
    for path in PATHS
    if path.split('/')[0] in METHODS and not re.search('-fsdp|context-scenes', path)
]


# MMEngine reads the first, `mim search` in an editable installation the second.
@pytest.fixture(scope='module', params=['mmseg_ctx/.mim', '.'])
def index(request):
    setup_arguments()  # writes the index, as an installation does
    index = modelindex.load(str(ROOT / request.param / 'model-index.yml'))
    index.build_models_with_collections()
    return index


def test_index_has_every_config_with_its_numbers(index):
    assert index.check(silent=True) == []
    titles = {method.title for method in METHODS.values()}
    assert {each.name for each in index.collections} == titles
    configs = [model.config.removeprefix('configs/') for model in index.models]
    assert sorted(configs) == INDEXED
    for model, path in zip(index.models, configs, strict=True):
        assert path.endswith(f'/{model.name}.py')
        config = load(path)
        gpus = int(re.search(r'_(\d+)xb', model.name).group(1))
        assert model.metadata.data['Batch Size'] == gpus * config.train_dataloader.batch_size
        layers = re.search(r'R-(\d+)', model.metadata.architecture[0])
        assert layers is None or int(layers.group(1)) == config.model.backbone.depth


def test_every_figure_is_the_papers_and_in_the_configs_comment(index):
    for model in index.models:
        comment = ''.join(re.findall(r'^#.*\n', (ROOT / model.config).read_text(), re.MULTILINE))
        for result in model.results or []:
            for name, value in result.metrics.items():
                assert name in ('mIoU(paper)', 'mIoU(ms+flip, paper)', 'mIoU(test server, paper)')
                assert re.search(rf'\b{value}0?\b', comment), (model.name, value, comment)

"""Every config: what it names can be built, and its numbers are those of the golden tables."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.dataset import Compose
from mmengine.optim import build_optim_wrapper
from mmengine.utils import get_installed_path
from mmseg.registry import DATASETS, HOOKS, METRICS, MODELS, PARAM_SCHEDULERS

from mmseg_ctx.utils.datasets import inner_datasets
from mmseg_ctx.utils.models import build
from tests.configs.zoo import PATHS, PUBLIC, load, read_tables, row

pytestmark = pytest.mark.usefixtures('mmseg_scope')
ROWS = read_tables()


def test_the_tables_have_every_config():
    assert list(ROWS) == PATHS, 'python -m tests.configs.zoo writes the tables again'


@pytest.mark.parametrize('path', PATHS)
def test_everything_it_names_can_be_built_and_its_numbers_are_the_tables(
    path, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    config = load(path)
    model = build(config.model)
    assert row(path, config, model) == ROWS[path]
    logits = model(torch.empty(2, 3, 64, 64, device='meta'), mode='tensor')
    head = model.decode_head
    head = head[-1] if isinstance(head, torch.nn.ModuleList) else head
    assert logits.shape[:2] == (2, head.out_channels)
    optimizer = build_optim_wrapper(model, config.optim_wrapper)
    for scheduler in config.param_scheduler:
        PARAM_SCHEDULERS.build(scheduler, default_args=dict(optimizer=optimizer))
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        for dataset in inner_datasets(loader.dataset):
            assert len(DATASETS.get(dataset.type).METAINFO['classes']) == head.num_classes
            Compose(dataset.pipeline)
    Compose(config.tta_pipeline)
    for evaluator in (config.val_evaluator, config.test_evaluator):
        METRICS.build(evaluator)
    assert all(hook.type in HOOKS for hook in config.default_hooks.values())
    assert config.tta_model.type in MODELS
    # A user's list of hooks replaces none of the config's.
    assert config.default_hooks.exact_resume.type == 'ExactResumeHook'
    assert 'custom_hooks' not in config
    # MMEngine validates at each multiple of the interval, and at the end: not twice in a row there.
    iterations, interval = config.train_cfg.max_iters, config.train_cfg.val_interval
    assert config.default_hooks.checkpoint.interval == interval
    assert iterations % interval == 0 or iterations % interval > 0.01 * iterations


def test_numbers_are_those_of_the_names():
    name = re.compile(r'.+_(\d+)xb(\d+)-(?:fsdp-)?(?:(\d+)k|\d+e)_.+-(\d+)x(\d+)\.py')
    for path in PUBLIC:
        numbers = ROWS[path]
        gpus, batch, thousands, *crop = name.fullmatch(path).groups()
        assert int(gpus) * int(batch) == (8 if '4xb2' in path else 16), path
        assert numbers['batch'] == batch, path
        assert numbers['crop'].split() == crop, path
        assert numbers['iterations'] == numbers['policy'].split()[-1], path
        assert thousands is None or int(numbers['iterations']) == 1000 * int(thousands), path
        assert ('r101' in path) == numbers['backbone'].endswith('101'), path
        assert ('SyncBN' in numbers['norms']) or 'swin' in path, path


# What a row of CAC's Table 1 is called in MMSegmentation's own configs.
BASELINES = {
    'fcn_m-v2-d8_4xb4': 'mobilenet_v2/mobilenet-v2-d8_fcn_4xb4',
    'deeplabv3plus_m-v2-d8_4xb4': 'mobilenet_v2/mobilenet-v2-d8_deeplabv3plus_4xb4',
    'ocrnet_hr18_4xb4': 'ocrnet/ocrnet_hr18_4xb4',
    'ocrnet_hr48_4xb4': 'ocrnet/ocrnet_hr48_4xb4',
    'upernet_r50_4xb4': 'upernet/upernet_r50_4xb4',
    'upernet_r101_4xb4': 'upernet/upernet_r101_4xb4',
    'deeplabv3plus_r50-d8_4xb4': 'deeplabv3plus/deeplabv3plus_r50-d8_4xb4',
    'deeplabv3plus_r101-d8_4xb4': 'deeplabv3plus/deeplabv3plus_r101-d8_4xb4',
    'upernet_swin-t_8xb2': 'swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2',
    'upernet_swin-b-384_8xb2': ('swin/swin-base-patch4-window12-in22k-384x384-pre_upernet_8xb2'),
    'upernet_swin-l-384_8xb2': ('swin/swin-large-patch4-window12-in22k-384x384-pre_upernet_8xb2'),
}
SAME = [
    *(
        (f'cac/cac-{ours}-160k_ade20k-512x512.py', f'{theirs}-160k_ade20k-512x512.py')
        for ours, theirs in BASELINES.items()
    ),
    (
        'cac/cac-upernet_r50_4xb2-80k_cityscapes-512x1024.py',
        'upernet/upernet_r50_4xb2-80k_cityscapes-512x1024.py',
    ),
    (
        'cac/cac-ocrnet_hr48_4xb2-160k_cityscapes-512x1024.py',
        'ocrnet/ocrnet_hr48_4xb2-160k_cityscapes-512x1024.py',
    ),
]


@pytest.mark.parametrize(('ours', 'theirs'), SAME, ids=lambda path: path.split('/')[0])
def test_cac_has_the_settings_of_its_baseline(ours, theirs):
    # An absolute path stays as it is below CONFIGS.
    wrapped, baseline = load(ours), load(Path(get_installed_path('mmseg'), '.mim/configs', theirs))
    unwrap(wrapped)
    first, second = build(wrapped.model), build(baseline.model)
    # All but the first line, the segmentor's class.
    assert str(first).split('\n')[1:] == str(second).split('\n')[1:]
    assert {name: value.shape for name, value in first.state_dict().items()} == {
        name: value.shape for name, value in second.state_dict().items()
    }
    assert wrapped.model.test_cfg == baseline.model.test_cfg
    assert plain(wrapped.param_scheduler) == plain(baseline.param_scheduler)
    assert {**baseline.optim_wrapper, **wrapped.optim_wrapper} == baseline.optim_wrapper
    assert wrapped.train_cfg == baseline.train_cfg
    for loader in ('train_dataloader', 'val_dataloader'):
        ours, theirs = wrapped[loader].dataset, baseline[loader].dataset
        assert plain(ours.pipeline) == plain(theirs.pipeline)
        assert ours.data_prefix == theirs.data_prefix
        assert wrapped[loader].batch_size == baseline[loader].batch_size
    assert wrapped.test_dataloader.batch_size == baseline.test_dataloader.batch_size


def plain(steps):
    """Return steps as plain dictionaries; what label 0 means, the data set class says itself."""
    return [{k: v for k, v in step.items() if k != 'reduce_zero_label'} for step in steps]


def unwrap(config):
    """Put a wrapped decode head in its wrapper's place."""
    head = config.model.decode_head
    if isinstance(head, list):
        head[-1] = head[-1]['head']
    else:
        config.model.decode_head = head['head']

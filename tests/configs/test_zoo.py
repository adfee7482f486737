"""Every config: it resolves, what it names can be built, and its numbers are the papers'."""

import copy
import functools
import re
from pathlib import Path
from unittest import mock

import pytest
import torch
from mmengine import Config
from mmengine.dataset import Compose
from mmengine.optim import build_optim_wrapper
from mmengine.registry import FUNCTIONS, RUNNERS, STRATEGIES, init_default_scope
from mmengine.utils import get_installed_path
from mmseg.registry import DATASETS, HOOKS, METRICS, MODELS, PARAM_SCHEDULERS

from tests.helpers import ROOT

CONFIGS = ROOT / 'configs'
ZOO = sorted(path for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts)
# On the embedded data set and on CamVid, where no paper is; their settings are ours.
OURS = [path for path in ZOO if re.search('context-scenes|camvid', path.name)]
PUBLIC = [path.relative_to(CONFIGS).as_posix() for path in ZOO if path not in OURS]
CAMVID = [path.relative_to(CONFIGS).as_posix() for path in ZOO if 'camvid' in path.name]

# Classes, crop (height, width), images an iteration, learning rate, iterations. Epochs of the
# papers are of 4,998 (PASCAL-Context), 10,582 (VOC aug) and 20,210 (ADE20K) images, 16 at a time.
# Where a paper gives no iterations, crop or rate, the value is MMSegmentation's for the data set.
PAPERS = {
    # CaC-Net, Section 4.1.
    'cacnet/cacnet_r50-d8_4xb4-120e_pascal-context-512x512': (60, (512, 512), 16, 0.001, 37485),
    'cacnet/cacnet_r101-d8_4xb4-120e_pascal-context-512x512': (60, (512, 512), 16, 0.001, 37485),
    'cacnet/cacnet_r101-d8_4xb4-80e_voc12aug-512x512': (21, (512, 512), 16, 0.002, 52910),
    'cacnet/cacnet_r101-d8_4xb4-20k_voc12trainval-512x512': (21, (512, 512), 16, 0.0002, 20000),
    'cacnet/cacnet_r101-d8_4xb4-180e_ade20k-576x576': (150, (576, 576), 16, 0.004, 227363),
    # ACNet, Section 4.2.
    'acnet/acnet_r50-d16_4xb4-80k_cityscapes-512x1024': (19, (512, 1024), 16, 0.005, 80000),
    'acnet/acnet_r101-d16-mg4816-ohem_4xb4-80k_cityscapes-512x1024': (
        *(19, (512, 1024), 16, 0.005, 80000),
    ),
    'acnet/acnet_r101-d16-mg4816-ohem_4xb4-20k_cityscapestrainval-512x1024': (
        *(19, (512, 1024), 16, 0.0005, 20000),
    ),
    'acnet/acnet_r50-d16_4xb4-160k_ade20k-512x512': (150, (512, 512), 16, 0.005, 160000),
    'acnet/acnet_r101-d16_4xb4-160k_ade20k-512x512': (150, (512, 512), 16, 0.005, 160000),
    'acnet/acnet_r101-d16_4xb4-80k_pascal-context-480x480': (60, (480, 480), 16, 0.001, 80000),
    'acnet/acnet_r101-d16_4xb4-40k_coco-stuff10k-512x512': (171, (512, 512), 16, 0.001, 40000),
    # DMNet, Section 4.1.
    'dmnet/dmnet_r50-d8_4xb4-80e_voc12aug-512x512': (21, (512, 512), 16, 0.01, 52910),
    'dmnet/dmnet_r101-d8_4xb4-80e_voc12aug-512x512': (21, (512, 512), 16, 0.01, 52910),
    'dmnet/dmnet_r101-d8_4xb4-20k_voc12trainval-512x512': (21, (512, 512), 16, 0.001, 20000),
    'dmnet/dmnet_r101-d8_4xb4-80e_pascal-context-512x512': (60, (512, 512), 16, 0.005, 24990),
    'dmnet/dmnet_r101-d8_4xb4-120e_ade20k-576x576': (150, (576, 576), 16, 0.01, 151575),
    # CTNet, Section 4.2.2; Cityscapes from the released code.
    'ctnet/ctnet_r50-jpu_4xb4-250e_pascal-context-480x480': (60, (480, 480), 16, 0.001, 78094),
    'ctnet/ctnet_r101-jpu_4xb4-250e_pascal-context-480x480': (60, (480, 480), 16, 0.001, 78094),
    'ctnet/ctnet_r101-jpu_4xb4-300e_ade20k-512x512': (150, (512, 512), 16, 0.005, 378938),
    'ctnet/ctnet_r101-jpu_4xb4-250e_voc12aug-512x512': (21, (512, 512), 16, 0.001, 165344),
    'ctnet/ctnet_r101v1d-d8_4xb4-160k_cityscapes-512x1024': (19, (512, 1024), 16, 0.01, 160000),
    'ctnet/ctnet_r101v1d-jpu_4xb4-160k_cityscapes-512x1024': (19, (512, 1024), 16, 0.01, 160000),
    'ctnet/ctnet_hr48_4xb4-160k_cityscapes-512x1024': (19, (512, 1024), 16, 0.01, 160000),
    # CAC, Table 1 (Section 4.1: settings of the baselines).
    **{
        f'cac/cac-{model}_{gpus}-160k_{dataset}-512x512': (classes, (512, 512), 16, rate, 160000)
        for models, gpus, rate in (
            ('fcn_m-v2-d8 deeplabv3plus_m-v2-d8 ocrnet_hr18 ocrnet_hr48', '4xb4', 0.01),
            ('upernet_r50 upernet_r101 deeplabv3plus_r50-d8 deeplabv3plus_r101-d8', '4xb4', 0.01),
            ('upernet_swin-t upernet_swin-b-384 upernet_swin-l-384', '8xb2', 6e-5),
        )
        for model in models.split()
        for dataset, classes in (('ade20k', 150), ('coco-stuff164k', 171))
    },
    'cac/cac-upernet_swin-l-384_8xb2-fsdp-160k_ade20k-512x512': (
        *(150, (512, 512), 16, 6e-5, 160000),
    ),
    'cac/cac-upernet_r50_4xb2-80k_cityscapes-512x1024': (19, (512, 1024), 8, 0.01, 80000),
    'cac/cac-ocrnet_hr48_4xb2-160k_cityscapes-512x1024': (19, (512, 1024), 8, 0.01, 160000),
    'cac/cac-upernet_r50_4xb4-80k_pascal-context-59-480x480': (59, (480, 480), 16, 0.004, 80000),
    'cac/cac-ocrnet_hr48_4xb4-80k_pascal-context-59-480x480': (59, (480, 480), 16, 0.004, 80000),
}
# The ablations of DMNet change the head of its first config and nothing else.
PAPERS.update(
    (path.removesuffix('.py'), PAPERS['dmnet/dmnet_r50-d8_4xb4-80e_voc12aug-512x512'])
    for path in PUBLIC
    if path.startswith('dmnet/ablations/')
)
DATA = {
    'ade20k': 'ADE20KDataset',
    'cityscapes': 'CityscapesDataset',
    'cityscapestrainval': 'CityscapesDataset',
    'coco-stuff10k': 'COCOStuffDataset',
    'coco-stuff164k': 'COCOStuffDataset',
    'pascal-context': 'PascalContextDataset',
    'pascal-context-59': 'PascalContextDataset59',
    'voc12aug': 'PascalVOCDataset',
    'voc12trainval': 'PascalVOCDataset',
}


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmseg')


read = functools.cache(Config.fromfile)


def load(path):
    """Return a config without what would be downloaded."""
    config = copy.deepcopy(read(CONFIGS / path))
    config.model.pretrained = None
    config.model.backbone.pop('init_cfg', None)
    return config


def build(config):
    # Swin Transformers read the values of a linspace.
    linspace = functools.partial(torch.linspace, device='cpu')
    with mock.patch('torch.linspace', linspace), torch.device('meta'):
        return MODELS.build(config.model)


def heads(config):
    """Return the configs of all heads, a wrapped head's own."""
    decode, auxiliary = config.model.decode_head, config.model.get('auxiliary_head')
    decode = decode if isinstance(decode, list) else [decode]
    return [head.get('head', head) for head in decode] + ([auxiliary] if auxiliary else [])


def datasets(loader):
    return loader.dataset.get('datasets', [loader.dataset])


def test_table_has_every_public_config():
    assert sorted(f'{path}.py' for path in PAPERS) == PUBLIC


@pytest.mark.parametrize('path', ZOO, ids=lambda path: path.relative_to(CONFIGS).as_posix())
def test_everything_it_names_can_be_built(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load(path)
    model = build(config)
    logits = model(torch.empty(2, 3, 64, 64, device='meta'), mode='tensor')
    head = model.decode_head
    head = head[-1] if isinstance(head, torch.nn.ModuleList) else head
    assert logits.shape[:2] == (2, head.out_channels)
    optimizer = build_optim_wrapper(model, config.optim_wrapper)
    for scheduler in config.param_scheduler:
        PARAM_SCHEDULERS.build(scheduler, default_args=dict(optimizer=optimizer))
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        for dataset in datasets(loader):
            assert dataset.type in DATASETS
            Compose(dataset.pipeline)
    Compose(config.tta_pipeline)
    for evaluator in (config.val_evaluator, config.test_evaluator):
        METRICS.build(evaluator)
    assert all(hook.type in HOOKS for hook in config.default_hooks.values())
    assert config.tta_model.type in MODELS


@pytest.mark.parametrize('path', ZOO, ids=lambda path: path.relative_to(CONFIGS).as_posix())
def test_a_list_of_hooks_replaces_none_of_the_configs(path):
    config = read(path)
    assert config.default_hooks.exact_resume.type == 'ExactResumeHook'
    assert 'custom_hooks' not in config


@pytest.mark.parametrize('path', ZOO, ids=lambda path: path.relative_to(CONFIGS).as_posix())
def test_the_last_validation_is_that_of_the_end(path):
    config = read(path)
    iterations, interval = config.train_cfg.max_iters, config.train_cfg.val_interval
    # MMEngine validates at each multiple of the interval, and at the end.
    validations = sorted({*range(interval, iterations + 1, interval), iterations})
    assert len(validations) == (1 if re.search('context-scenes|160x208', path.name) else 10)
    assert all(iterations - other > 0.01 * iterations for other in validations[:-1])
    assert config.default_hooks.checkpoint.interval == interval


@pytest.mark.parametrize('path', PAPERS)
def test_numbers_are_the_papers(path):
    classes, crop, batch, rate, iterations = PAPERS[path]
    config = load(f'{path}.py')
    assert [head.num_classes for head in heads(config)] == [classes] * len(heads(config))
    assert config.model.data_preprocessor.size == crop
    assert config.optim_wrapper.optimizer.lr == rate
    assert config.train_cfg.max_iters == config.param_scheduler[-1].end == iterations
    name, training, data = re.fullmatch(r'(.+?)_(\d+xb\d+-[\w-]+?)_(.+)', Path(path).name).groups()
    gpus, a_gpu, schedule = re.fullmatch(r'(\d+)xb(\d+)-(?:fsdp-)?(\w+)', training).groups()
    assert int(gpus) * int(a_gpu) == batch
    assert int(a_gpu) == config.train_dataloader.batch_size
    if schedule.endswith('k'):
        assert int(schedule[:-1]) * 1000 == iterations
    dataset, height, width = re.fullmatch(r'(.+)-(\d+)x(\d+)', data).groups()
    assert (int(height), int(width)) == crop
    for part in datasets(config.train_dataloader):
        assert part.type == DATA[dataset]
        [cropping] = [step for step in part.pipeline if step.type == 'RandomCrop']
        assert tuple(cropping.crop_size) == crop
        assert len(DATASETS.get(part.type).METAINFO['classes']) == classes
    assert ('r101' in name) == (config.model.backbone.get('depth') == 101)


@pytest.mark.parametrize('path', [path for path in PAPERS if not path.startswith('cac/')])
def test_optimizer_of_the_papers(path):
    config = load(f'{path}.py')
    optimizer, policy = config.optim_wrapper.optimizer, config.param_scheduler[0]
    assert (optimizer.type, optimizer.momentum, optimizer.weight_decay) == ('SGD', 0.9, 1e-4)
    assert (policy.type, policy.power) == ('PolyLR', 0.9)
    # What differs from the papers: MMSegmentation's end value.
    assert policy.eta_min == 1e-4


@pytest.mark.parametrize('path', [path for path in PUBLIC if 'swin' not in path])
def test_batch_norm_is_synchronized(path):
    norms = [
        value
        for key, value in walk(load(path).model.to_dict())
        if key == 'norm_cfg' and value is not None
    ]
    assert len(norms) >= 2
    assert all(norm['type'] == 'SyncBN' for norm in norms)


def walk(node):
    """Yield every key and value of nested dictionaries and lists."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield key, value
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)


@pytest.mark.parametrize('path', PAPERS)
def test_augmentation_and_scales_of_the_papers(path):
    config = load(f'{path}.py')
    method = path.split('/')[0]
    [scales] = [steps for steps in config.tta_pipeline[1].transforms if steps[0].type == 'Resize']
    expected = [0.5, 0.75, 1.0, 1.25, 1.5, 1.75]
    if method == 'acnet':
        expected += [2.0, 2.25]
    assert [step.scale_factor for step in scales] == expected
    [flips] = [s for s in config.tta_pipeline[1].transforms if s[0].type == 'RandomFlip']
    assert [step.prob for step in flips] == [0.0, 1.0]
    for part in datasets(config.train_dataloader):
        steps = {step.type: step for step in part.pipeline}
        ratio = steps['RandomResize'].ratio_range if 'RandomResize' in steps else None
        if path == 'acnet/acnet_r50-d16_4xb4-80k_cityscapes-512x1024':
            assert ratio is None
        elif 'mg4816' in path:
            assert ratio == (0.5, 2.2)
        else:
            assert ratio == (0.5, 2.0)
        assert ('RandomRotate' in steps) == (method == 'ctnet')
        assert ('PhotoMetricDistortion' in steps) == (method == 'cac')
        if method == 'ctnet':
            assert (steps['RandomRotate'].degree, steps['RandomRotate'].prob) == (10, 1.0)


def test_auxiliary_heads_of_the_papers():
    for path in PUBLIC:
        model = load(path).model
        auxiliary = model.get('auxiliary_head')
        if path.startswith('acnet/acnet_r50'):
            assert auxiliary is None
        elif 'hr18' not in path and 'hr48' not in path:
            weight = 0.3 if path.startswith('ctnet') else 0.4
            assert auxiliary.loss_decode.loss_weight == weight
            # Stage 4 of the papers' five; JPU backbones give stages 3 to 5.
            assert auxiliary.in_index == (1 if '-jpu' in path else 2)


@pytest.mark.parametrize('path', CAMVID)
def test_camvid_settings_are_those_of_the_baseline(path):
    """All but the head."""
    config = load(path)
    baseline = load('fcn/fcn' + re.search(r'_lite0.+', path).group())
    head = config.model.decode_head
    method = path.split('/')[0]
    if method == 'cac':
        inner = path.split('/')[1].split('_')[0].removeprefix('cac-')
        assert head == dict(
            type='ContextAwareClassifierHead',
            head=load(path.replace('cac/cac-', f'{inner}/')).model.decode_head,
        )
    assert [head.num_classes for head in heads(config)] == [11] * len(heads(config))
    config.model.decode_head = baseline.model.decode_head
    assert config.to_dict() == baseline.to_dict()


@pytest.mark.parametrize('path', CAMVID)
def test_camvid_is_trained_validated_and_tested_on_its_parts(path):
    config = load(path)
    for split in ('train', 'val', 'test'):
        dataset = config[f'{split}_dataloader'].dataset
        assert (dataset.type, dataset.data_root) == ('CamVidDataset', 'data/camvid')
        assert dataset.data_prefix == dict(img_path=split, seg_map_path=f'{split}annot')
        [resize] = [step for step in dataset.pipeline if step.type.endswith('Resize')]
        assert resize.scale == ((240, 180) if '160x208' in path else (480, 360))
        # Predictions are compared at the labels' own size.
        types = [step.type for step in dataset.pipeline]
        assert (types.index('LoadAnnotations') > types.index(resize.type)) == (split != 'train')


def test_acnet_encoder():
    for path in (path for path in PUBLIC if path.startswith('acnet/')):
        backbone = build(load(path)).backbone
        dilations = [block.conv2.dilation[0] for block in backbone.layer4]
        assert dilations == ([4, 8, 16] if 'mg4816' in path else [2, 2, 2])
        [*features] = backbone(torch.empty(1, 3, 64, 64, device='meta'))
        assert [feature.shape[-1] for feature in features] == [16, 8, 4, 4]


def test_sharding_gathers_stages_and_no_head():
    config = load('cac/cac-upernet_swin-l-384_8xb2-fsdp-160k_ade20k-512x512.py')
    assert config.runner_type in RUNNERS
    assert config.strategy.type in STRATEGIES
    policy = config.strategy.model_wrapper.auto_wrap_policy
    wraps = functools.partial(FUNCTIONS.get(policy.pop('type')), recurse=False, **policy)
    model = build(config)
    sizes = {
        name: sum(parameter.numel() for parameter in module.parameters())
        for name, module in model.named_modules()
    }
    for name, gathered in {
        'backbone.stages.0': False,
        'backbone.stages.1': False,
        'backbone.stages.2': True,
        'backbone.stages.3': True,
        'decode_head': False,
        'auxiliary_head': False,
    }.items():
        module = model.get_submodule(name)
        assert wraps(module=module, nonwrapped_numel=sizes[name]) is gathered, name


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
    first, second = build(wrapped), build(baseline)
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


def of_ade20k(config):
    """Return a config with ADE20K's classes and data in place of its own, as a dictionary."""
    config = copy.deepcopy(config)
    ade20k = read(CONFIGS / '_base_/datasets/ade20k_photometric.py')
    for head in heads(config):
        head.num_classes = 150
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = config[loader].dataset
        for key in ('type', 'data_root', 'data_prefix'):
            dataset[key] = ade20k[loader].dataset[key]
    settings = config.to_dict()
    # Bases' variables, which the entries above were made of.
    del settings['dataset']
    return settings


@pytest.mark.parametrize('model', BASELINES)
def test_coco_stuff_has_the_settings_of_ade20k(model):
    ade20k, coco_stuff = (
        load(f'cac/cac-{model}-160k_{dataset}-512x512.py')
        for dataset in ('ade20k', 'coco-stuff164k')
    )
    assert coco_stuff.model != ade20k.model
    assert of_ade20k(coco_stuff) == of_ade20k(ade20k)


@pytest.mark.parametrize('model', ['upernet_r50', 'ocrnet_hr48'])
@pytest.mark.parametrize(
    'other',
    [
        'cac/cac-{model}_4xb4-80k_pascal-context-59-480x480.py',
        'cac/cac-{model}_4xb2-{iterations}_cityscapes-512x1024.py',
    ],
)
def test_other_data_sets_have_the_model_of_ade20k(other, model):
    iterations = {'upernet_r50': '80k', 'ocrnet_hr48': '160k'}[model]
    ours = load(other.format(model=model, iterations=iterations))
    ade20k = load(f'cac/cac-{model}_4xb4-160k_ade20k-512x512.py')
    for head in (*heads(ours), *heads(ade20k)):
        head.num_classes = 1
    for config in (ours, ade20k):
        del config.model.data_preprocessor.size
        del config.model.test_cfg
    assert ours.model == ade20k.model


@pytest.mark.parametrize('model', ['upernet_r50', 'ocrnet_hr48'])
def test_pascal_context_has_the_settings_of_mmsegmentation(model):
    """MMSegmentation has neither model there; rate, crop and window are those of its others."""
    ours = load(f'cac/cac-{model}_4xb4-80k_pascal-context-59-480x480.py')
    theirs = load(
        Path(
            get_installed_path('mmseg'),
            '.mim/configs/deeplabv3plus/deeplabv3plus_r101-d8_4xb4-80k_pascal-context-59-480x480.py',
        )
    )
    assert ours.model.test_cfg == theirs.model.test_cfg
    assert ours.model.data_preprocessor.size == theirs.model.data_preprocessor.size
    assert {**theirs.optim_wrapper, **ours.optim_wrapper} == theirs.optim_wrapper
    assert plain(ours.param_scheduler) == plain(theirs.param_scheduler)
    assert ours.train_cfg == theirs.train_cfg
    for loader in ('train_dataloader', 'val_dataloader'):
        dataset, baseline = ours[loader].dataset, theirs[loader].dataset
        assert dataset.type == baseline.type
        assert plain(dataset.pipeline) == plain(baseline.pipeline)
        assert ours[loader].batch_size == theirs[loader].batch_size

"""The papers' ablations of CAC and CTNet, which are options in READMEs."""

import argparse
import re

import pytest
import torch
from mmengine import DictAction
from mmengine.registry import init_default_scope

from tests.configs.zoo import CONFIGS, build, load


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmseg')


KL = dict(type='ClassEntropyKLLoss')
# Tables 2 to 5 of CAC: what a row changes in the head, and its mIoU in %.
CAC = {
    'Table 2 b': (dict(loss_prior_weight=0, loss_oracle_weight=0, loss_kl=None), 44.06),
    'Table 2 c': (dict(loss_oracle_weight=0, loss_kl=None), 45.14),
    'Table 2 d, Table 3 a': (dict(loss_kl=None), 45.74),
    'Table 2 e': (dict(loss_oracle_weight=0), 45.23),
    'Table 2 g': (dict(loss_kl=dict(KL, loss_weight=0.1)), 45.88),
    'Table 2 h': (dict(loss_kl=dict(KL, loss_weight=10)), 46.08),
    'Table 3 b': (dict(loss_kl=dict(KL, entropy_weighting=False, class_wise=False)), 45.72),
    'Table 3 c': (dict(loss_kl=dict(KL, class_wise=False)), 45.99),
    'Table 3 d': (dict(loss_kl=dict(KL, entropy_weighting=False)), 46.10),
    'Table 3 (1)': (dict(loss_kl=dict(KL, entropy_source='estimate')), 46.58),
    'Table 3 (2)': (dict(loss_kl=dict(KL, entropy_source='prior')), 46.22),
    'Table 4 c': (dict(context_logits='dot'), 45.42),
    'Table 4 e': (dict(prior_logits='cosine'), 46.39),
    'Table 4 (1)': (dict(temperature=5), 45.39),
    'Table 4 (2)': (dict(temperature=10), 46.78),
    'Table 4 (3)': (dict(temperature=20), 46.26),
    'Table 5 a': (dict(projector_input='none'), 44.08),
    'Table 5 b': (dict(projector_input='none', residual='classifier'), 44.13),
    'Table 5 c': (dict(projector_input='prototype'), 46.21),
    'Table 5 d': (dict(projector_input='sum'), 46.53),
    'Table 5 e': (dict(residual='classifier'), 45.94),
    'Eq. 11': (dict(loss_kl=dict(KL, soft_target_ratio=1.0)), None),
    'Eqs. 1, 11': (dict(oracle_scope='image', loss_kl=dict(KL, soft_target_ratio=1.0)), None),
}


# What a row of CTNet's tables changes in the head, and its mIoU in %.
CTNET = {
    'Table 1, {9}': (dict(kernel_sizes=[9]), 52.2),
    'Table 1, {9, 17}': (dict(kernel_sizes=[9, 17]), 52.4),
    'Table 1, {9, 17, 33}': (dict(kernel_sizes=[9, 17, 33]), 52.3),
    'Table 1, {9, 17, 33, 65, 129}': (dict(kernel_sizes=[9, 17, 33, 65, 129]), 52.4),
    'Table 2, Max': (dict(pooling='max'), 52.3),
    'Table 2, Mix': (dict(pooling='mix'), 52.5),
    'Table 5, OCCM': (dict(mode='channel'), 52.6),
    'Table 5, OSCM': (dict(mode='spatial'), 52.3),
    'Table 6, PANet': (dict(mode='parallel'), 52.6),
    'Figure 11, β = 0': (dict(loss_class_probability=None), None),
}
OPTIONS = [
    *(('cac/cac-upernet_swin-t_8xb2-160k_ade20k-512x512', row, *CAC[row]) for row in CAC),
    *(('cac/cac-dmnet_r18-small_1xb16-600_context-scenes-128x128', row, *CAC[row]) for row in CAC),
    *(('ctnet/ctnet_r50-jpu_4xb4-250e_pascal-context-480x480', row, *CTNET[row]) for row in CTNET),
]


def parse(options):
    """Return what MMEngine's scripts make of ``--cfg-options``."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    return parser.parse_args(['--cfg-options', *options.split()]).cfg_options


def rows_of(method):
    """Return the rows of a README's table of options: the figure and the options of each name."""
    row = r'^\| ([^|]+) \| [^|]+ \| ([^|]+) \| `(model\.decode_head\.[^`]+)` \|$'
    text = (CONFIGS / method / 'README.md').read_text()
    return {name: rest for name, *rest in re.findall(row, text, re.MULTILINE)}


def test_readmes_have_every_ablation():
    assert list(rows_of('cac')) == list(CAC)
    assert list(rows_of('ctnet')) == list(CTNET)


@pytest.mark.parametrize(('path', 'row', 'changes', 'score'), OPTIONS)
def test_options_of_the_readmes(path, row, changes, score):
    method = path.split('/')[0]
    figure, options = rows_of(method)[row]
    assert figure == (f'{score:.{2 if method == "cac" else 1}f}' if score else '–')
    config, expected = load(f'{path}.py'), load(f'{path}.py')
    config.merge_from_dict(parse(options))
    expected.model.decode_head.update(changes)
    assert config.to_dict() == expected.to_dict()
    model = build(config)
    logits = model(torch.empty(2, 3, 64, 64, device='meta'), mode='tensor')
    assert logits.shape[1] == model.decode_head.num_classes


@pytest.mark.parametrize('row', CAC)
def test_options_for_a_cascade_name_its_last_head(row):
    path = 'cac/cac-ocrnet_hr18_4xb4-160k_ade20k-512x512.py'
    _, options = rows_of('cac')[row]
    assert '`model.decode_head.1`' in (CONFIGS / 'cac/README.md').read_text()
    config, expected = load(path), load(path)
    config.merge_from_dict(parse(options.replace('decode_head.', 'decode_head.1.')))
    expected.model.decode_head[1].update(CAC[row][0])
    assert config.to_dict() == expected.to_dict()

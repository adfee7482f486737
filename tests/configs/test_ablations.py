"""The papers' ablations of CAC and CTNet, which are options in READMEs."""

import argparse
import re

import pytest
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
# The configs that a README's options are tried on.
TRIED = {
    'cac/cac-upernet_swin-t_8xb2-160k_ade20k-512x512.py': CAC,
    'cac/cac-ocrnet_hr18_4xb4-160k_ade20k-512x512.py': CAC,
    'ctnet/ctnet_r50-jpu_4xb4-250e_pascal-context-480x480.py': CTNET,
}


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


@pytest.mark.parametrize('path', TRIED)
def test_options_of_the_readmes(path):
    """Each changes the head as its row says, of a cascade the last head, and can be built."""
    method, rows = path.split('/')[0], TRIED[path]
    readme = rows_of(method)
    assert list(readme) == list(rows)
    for name, (changes, score) in rows.items():
        figure, options = readme[name]
        assert figure == (f'{score:.{2 if method == "cac" else 1}f}' if score else '–')
        config, expected = load(path), load(path)
        head = expected.model.decode_head
        if isinstance(head, list):
            options = options.replace('decode_head.', 'decode_head.1.')
            head = head[-1]
        config.merge_from_dict(parse(options))
        head.update(changes)
        assert config.to_dict() == expected.to_dict(), name
        build(config)

"""The papers' ablations of CAC and CTNet, which are options in READMEs: each can be built."""

import argparse
import re

import pytest
from mmengine import DictAction

from tests.configs.zoo import CONFIGS, build, load

# The configs that a README's options are tried on, and how many options it has.
TRIED = {
    'cac/cac-upernet_swin-t_8xb2-160k_ade20k-512x512.py': 23,
    'cac/cac-ocrnet_hr18_4xb4-160k_ade20k-512x512.py': 23,
    'ctnet/ctnet_r50-jpu_4xb4-250e_pascal-context-480x480.py': 10,
}


@pytest.mark.usefixtures('mmseg_scope')
@pytest.mark.parametrize('path', TRIED)
def test_options_of_the_readmes(path):
    """Each changes the head, of a cascade the last one, in something that it has."""
    readme = (CONFIGS / path).with_name('README.md').read_text()
    rows = re.findall(r'`(model\.decode_head\.[^`]+)` \|$', readme, re.MULTILINE)
    assert len(rows) == TRIED[path]
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    for options in rows:
        config = load(path)
        if isinstance(config.model.decode_head, list):
            options = options.replace('decode_head.', 'decode_head.1.')
        changes = parser.parse_args(['--cfg-options', *options.split()]).cfg_options
        config.merge_from_dict(changes)
        assert config.to_dict() != load(path).to_dict(), options
        build(config)

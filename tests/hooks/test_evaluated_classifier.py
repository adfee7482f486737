"""The commands of CAC's README that evaluate the oracle and the prior."""

import argparse
import re

import torch
from mmengine import Config, DictAction
from mmengine.hooks import Hook
from mmengine.runner import Runner

from tests.helpers import ROOT


def commands():
    """Return the config's name and, by the classifier, the options of the README's tests."""
    text = (ROOT / 'configs/cac/README.md').read_text()
    section = text.split('## Evaluating the prior and the oracle')[1].replace('\\\n', '')
    name = re.search(r'^NAME=(.+)$', section, re.MULTILINE).group(1)
    tests = re.findall(r'^mim test (.+?) +# (\w+)$', section, re.MULTILINE)
    return name, {classifier: command.split('--cfg-options')[1:] for command, classifier in tests}


class Keep(Hook):
    """Keeps the predictions of a test."""

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.predictions = torch.stack([sample.pred_sem_seg.data for sample in outputs])


def predict(name, options, folder):
    config = Config.fromfile(ROOT / f'configs/cac/{name}.py')
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    for text in options:
        settings = parser.parse_args(['--cfg-options', *text.split()]).cfg_options
        config.merge_from_dict(settings)
    config.merge_from_dict(
        {
            'work_dir': str(folder),
            'experiment_name': f'{folder.name}{len(str(options))}',
            'test_dataloader.num_workers': 0,
            'test_dataloader.persistent_workers': False,
            'test_dataloader.dataset.num_images': 2,
            'test_dataloader.dataset.image_size': 64,
        }
    )
    runner = Runner.from_cfg(config)
    runner.register_hook(kept := Keep())
    runner.test()
    return kept.predictions


def test_the_commands_of_the_readme(tmp_path):
    name, options = commands()
    assert list(options) == ['refined', 'oracle', 'prior']
    # The seed of the config gives each the same model.
    predictions = {key: predict(name, options[key], tmp_path / key) for key in options}
    assert not torch.equal(predictions['refined'], predictions['prior'])
    assert not torch.equal(predictions['refined'], predictions['oracle'])
    assert not torch.equal(predictions['prior'], predictions['oracle'])
    assert torch.equal(predictions['refined'], predict(name, [], tmp_path / 'again'))

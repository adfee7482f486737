"""Tests that predict with the prior or the oracle of a context-aware classifier."""

import torch
from mmengine import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from tests.helpers import ROOT

CONFIG = ROOT / 'configs/cac/cac-fcn_r18-small_1xb16-600_context-scenes-128x128.py'
HOOK = 'default_hooks.classifier'


class Keep(Hook):
    """Keeps the predictions of a test."""

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.predictions = torch.stack([sample.pred_sem_seg.data for sample in outputs])


def predict(folder, **classifier):
    config = Config.fromfile(CONFIG)
    config.merge_from_dict(
        {
            'work_dir': str(folder),
            'experiment_name': f'{folder.name} classifier',
            'test_dataloader.num_workers': 0,
            'test_dataloader.persistent_workers': False,
            'test_dataloader.dataset.num_images': 2,
            'test_dataloader.dataset.image_size': 64,
            **{f'{HOOK}.{name}': value for name, value in classifier.items()},
        }
    )
    runner = Runner.from_cfg(config)
    runner.register_hook(kept := Keep())
    runner.test()
    return kept.predictions


def test_each_classifier_predicts_something_else(tmp_path):
    # The seed of the config gives each the same model.
    refined = predict(tmp_path / 'refined')
    oracle = predict(tmp_path / 'oracle', type='EvaluatedClassifierHook')
    prior = predict(tmp_path / 'prior', type='EvaluatedClassifierHook', classifier='prior')
    assert not torch.equal(refined, prior)
    assert not torch.equal(refined, oracle)
    assert not torch.equal(prior, oracle)
    assert torch.equal(refined, predict(tmp_path / 'again'))

"""One run of a study, in a process of its own: train, evaluate, write the result."""

import json
import sys
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmseg_ctx.heads import ContextAwareClassifierHead
from mmseg_ctx.hooks import EvaluatedClassifierHook
from mmseg_ctx.utils.files import writing


def train_and_test(config):
    """Train a model, or go on from its last checkpoint, and evaluate it.

    Args:
        config (Config): Of MMEngine's ``Runner``.

    Returns:
        dict: ``metrics``, those of the test loop by the name of the classifier: ``'prior'``,
        ``'refined'`` and ``'oracle'`` of a context-aware classifier, else ``'model'``;
        ``parameters``, and ``torch``, its version.
    """
    runner = Runner.from_cfg(config)
    runner.train()
    if any(isinstance(part, ContextAwareClassifierHead) for part in runner.model.modules()):
        metrics = _test_classifiers(runner)
    else:
        metrics = dict(model=runner.test())
    return dict(
        metrics={name: _numbers(entries) for name, entries in metrics.items()},
        parameters=sum(parameter.numel() for parameter in runner.model.parameters()),
        torch=torch.__version__,
    )


def _test_classifiers(runner):
    refined = runner.test()
    hook = EvaluatedClassifierHook('prior')
    runner.register_hook(hook)
    prior = runner.test()
    hook.classifier = 'oracle'
    return dict(prior=prior, refined=refined, oracle=runner.test())


def _numbers(metrics):
    return {name: float(value) for name, value in metrics.items()}


def main():
    """Do the run of a folder: ``python -m mmseg_ctx.analysis.study_run FOLDER``."""
    folder = Path(sys.argv[1])
    config = Config.fromfile(folder / 'settings.py')
    config.work_dir = str(folder / 'work_dir')
    result = train_and_test(config)
    with writing(folder / 'result.json', force=True) as temporary:
        temporary.write_text(json.dumps(result, indent=1))


if __name__ == '__main__':
    main()

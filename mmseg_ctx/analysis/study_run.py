"""One run of a study, in a process of its own: train, evaluate, write the result."""

import copy
import json
import sys
import time
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner, find_latest_checkpoint

from mmseg_ctx.heads import ContextAwareClassifierHead
from mmseg_ctx.utils.files import writing

# The tests of a model with a context-aware classifier: its three classifiers.
CLASSIFIERS = dict(
    prior={'default_hooks.classifier': dict(type='EvaluatedClassifierHook', classifier='prior')},
    refined={},
    oracle={'default_hooks.classifier': dict(type='EvaluatedClassifierHook', classifier='oracle')},
)


class _CurveHook(Hook):
    """Adds the metrics of each validation to a file, which a resumed run goes on with."""

    def __init__(self, path):
        self.path = path

    def after_val_epoch(self, runner, metrics=None):
        with open(self.path, 'a') as file:
            file.write(json.dumps(dict(iteration=runner.iter, **_numbers(metrics))) + '\n')


def train_and_test(config, start=None):
    """Train a model, or go on from its last checkpoint, and test it.

    Args:
        config (Config): Config of a ``Runner``, with ``work_dir``.
        start (str | Path | None): The ``work_dir`` whose last checkpoint gives the first weights.
            Default: what the config says.

    Returns:
        dict: ``metrics`` of each test by its name; ``curve``, the metrics of each validation with
        its ``iteration``; ``parameters``; ``torch``, the version; and ``seconds``, how long all
        this took, without what an interrupted run did before.
    """
    began = time.monotonic()
    work_dir = Path(config.work_dir)
    if start and not find_latest_checkpoint(work_dir):
        config.update(load_from=find_latest_checkpoint(start), resume=False)
    runner = Runner.from_cfg(config)
    curve = work_dir / 'curve.jsonl'
    runner.register_hook(_CurveHook(curve))
    model = runner.train()
    aware = any(isinstance(part, ContextAwareClassifierHead) for part in model.modules())
    tests = CLASSIFIERS if aware else dict(model={})
    return dict(
        metrics={name: _test(config, overrides) for name, overrides in tests.items()},
        curve=_read_curve(curve),
        parameters=sum(map(torch.numel, model.parameters())),
        torch=torch.__version__,
        seconds=round(time.monotonic() - began),
    )


def _test(config, overrides):
    config = copy.deepcopy(config)
    config.merge_from_dict(overrides)
    config.update(load_from=find_latest_checkpoint(config.work_dir), resume=False)
    return _numbers(Runner.from_cfg(config).test())


def _read_curve(path):
    """Return the entries in order. A resumed run repeats some; the last one of each counts."""
    lines = path.read_text().splitlines() if path.exists() else []
    entries = {entry['iteration']: entry for entry in map(json.loads, lines)}
    return [entries[iteration] for iteration in sorted(entries)]


def _numbers(metrics):
    return {name: float(value) for name, value in metrics.items()}


def main():
    """Do the run of a folder: ``python -m mmseg_ctx.analysis.study_run FOLDER``."""
    folder = Path(sys.argv[1])
    config = Config.fromfile(folder / 'settings.py')
    config.work_dir = str(folder / 'work_dir')
    name = config.get('study', {}).get('start_from')
    start = name and folder.parents[1] / name / folder.name / 'work_dir'
    result = train_and_test(config, start)
    with writing(folder / 'result.json', force=True) as temporary:
        temporary.write_text(json.dumps(result, indent=1))


if __name__ == '__main__':
    main()

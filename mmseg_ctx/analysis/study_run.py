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


class _CurveHook(Hook):
    """Adds the metrics of each validation to a file."""

    def __init__(self, path):
        self.path = path

    def after_val_epoch(self, runner, metrics=None):
        with open(self.path, 'a') as file:
            file.write(json.dumps(dict(iteration=runner.iter, **metrics), default=float) + '\n')


def train_and_test(config, start=None):
    """Train a model, or go on from its last checkpoint, and test it.

    The last checkpoint in the folder ``start`` gives the first weights, by default the config.

    Returns:
        dict: ``metrics`` of each test by its name, ``'model'`` or a context-aware classifier's
        ``'prior'``, ``'refined'`` and ``'oracle'``; ``curve``, the metrics of each validation with
        its ``iteration``; ``parameters``; ``torch``, the version; and ``seconds``, how long all
        this took, without what an interrupted run did before.
    """
    began = time.monotonic()
    if start and not find_latest_checkpoint(config.work_dir):
        config.update(load_from=find_latest_checkpoint(start), resume=False)
    runner = Runner.from_cfg(config)
    path = Path(config.work_dir, 'curve.jsonl')
    runner.register_hook(_CurveHook(path))
    model = runner.train()
    aware = any(isinstance(part, ContextAwareClassifierHead) for part in model.modules())
    metrics = {}
    for name in ('prior', 'refined', 'oracle') if aware else ('model',):
        test = copy.deepcopy(config)
        test.update(load_from=find_latest_checkpoint(config.work_dir), resume=False)
        if name in ('prior', 'oracle'):
            test.default_hooks.classifier = dict(type='EvaluatedClassifierHook', classifier=name)
        metrics[name] = {key: float(value) for key, value in Runner.from_cfg(test).test().items()}
    points = map(json.loads, path.read_text().splitlines() if path.exists() else ())
    # A resumed run repeats some; the last one of each counts.
    curve = {point['iteration']: point for point in points}
    return dict(
        metrics=metrics,
        curve=[curve[iteration] for iteration in sorted(curve)],
        parameters=sum(map(torch.numel, model.parameters())),
        torch=torch.__version__,
        seconds=round(time.monotonic() - began),
    )


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

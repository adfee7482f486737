"""Trains the rows of a suite, each with several seeds; finished runs are not repeated.

``python -m mmseg_ctx.analysis.study FOLDER`` does the run that :func:`plan` wrote into a folder.
"""

import copy
import json
import os
import pprint
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import torch
import yaml
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner, find_latest_checkpoint

from mmseg_ctx.heads import ContextAwareClassifierHead
from mmseg_ctx.utils.configs import config_path, read_config
from mmseg_ctx.utils.errors import value_errors
from mmseg_ctx.utils.files import writing
from mmseg_ctx.utils.methods import METHODS
from mmseg_ctx.utils.models import last_head

SUITES = Path(__file__).with_name('suites')
# Settings that a run needs in its config, or that this module changes.
NEEDED = (
    *('model', 'train_cfg.max_iters', 'train_dataloader', 'test_cfg', 'test_dataloader'),
    *('test_evaluator', 'optim_wrapper', 'param_scheduler', 'default_hooks.checkpoint'),
)


class Row(NamedTuple):
    """A config that is trained once for each seed.

    Attributes:
        name (str): Name in the table, and of the folder of the runs.
        config (str): Path of a config, below the package's ``configs/`` or anywhere.
        overrides (dict | None): Settings, with dotted keys as in ``--cfg-options``. Default: none.
        shows (str): What the row is for. Default: nothing.
        group (str): Name that ``--rows`` accepts for all rows of the group. Default: none.
        seeds (Sequence[int]): Seeds. Default: 0, 1 and 2.
        by_default (bool): Whether a study without ``--rows`` trains the row. Default: True.
        iterations (int | None): How long to train. Default: as the config says.
        validate_every (int | None): Iterations between validations, for curves. Default: none.
    """

    name: str
    config: str
    overrides: dict | None = None
    shows: str = ''
    group: str = ''
    seeds: tuple = (0, 1, 2)
    by_default: bool = True
    iterations: int | None = None
    validate_every: int | None = None


class Suite(NamedTuple):
    """A study's rows, and how its report shows them."""

    title: str  # the data that all rows are trained on
    rows: tuple  # in the order of the table
    quick: tuple  # the rows of --quick, with seed 0 and fewer iterations
    out: str  # folder of the study if none is named
    metrics: dict | None = None  # metrics to show and their headings; every mIoU if None
    note: str = ''  # how long the study takes, for the help text


def read_suite(name):
    """Read a suite from its YAML file, one of :func:`suite_names` or the path of another.

    The file has the attributes of :class:`Suite`, and in each entry of ``rows`` the attributes of
    :class:`Row`; ``defaults`` has attributes of every row, and overrides beside the row's own. An
    entry with ``methods`` stands for a row of each method that has a config for the suite named;
    ``{}`` in its ``name`` and ``shows`` stands for the method's.
    ``quick`` names ``rows`` or groups, and their ``iterations``, by default their own.

    Raises:
        ValueError: The suite does not exist, or its file is wrong.
    """
    path = Path(name) if Path(name).suffix else SUITES / f'{name}.yml'
    if not path.is_file():
        known = ', '.join(suite_names())
        raise ValueError(f'the suite must be among {known} or a table file, got {name!r}')
    with value_errors(f'{path} cannot be read as a suite'):
        content = {'out': f'work_dirs/study-{path.stem}', **yaml.safe_load(path.read_text())}
        defaults, quick = content.pop('defaults', {}), content.pop('quick')
        rows = [row for entry in content.pop('rows') for row in _read_rows(defaults, **entry)]
        quick_rows = select(rows, quick.pop('rows'))
        few = tuple(row._replace(seeds=(0,), **quick) for row in quick_rows)
        return Suite(rows=tuple(rows), quick=few, **content)


def _read_rows(defaults, methods=None, **entry):
    overrides = defaults.get('overrides', {}) | entry.get('overrides', {})
    entry = {**defaults, **entry, 'overrides': overrides}
    if methods is None:
        return [Row(**entry)]
    name, shows, rows = entry.pop('name', '{}'), entry.pop('shows', '{}'), []
    for method in METHODS.values():
        if config := method.suites.get(methods):
            own = Path(config).name.split('_')[0]
            rows.append(Row(name.format(own), config, shows=shows.format(method.label), **entry))
    if not rows:
        raise ValueError(f'no method has a config for the study {methods!r}')
    return rows


def suite_names():
    """Return the names of the suites that travel with the package."""
    return sorted(path.stem for path in SUITES.glob('*.yml'))


def groups(rows):
    """Return the names of the groups of rows: list[str]."""
    return list(dict.fromkeys(row.group for row in rows if row.group))


def select(rows, names):
    """Return the rows of some names or groups, or without names the suite's default: list[Row].

    Raises:
        ValueError: A name is unknown.
    """
    known = (*(row.name for row in rows), *groups(rows))
    for name in names:
        if name not in known:
            raise ValueError(f'rows must be among {", ".join(known)}, got {name!r}')
    if not names:
        return [row for row in rows if row.by_default]
    return [row for row in rows if row.name in names or row.group in names]


def run_config(row, seed, iterations=None):
    """Return the config (Config) of a row with a seed, without ``work_dir``.

    The schedule is stretched to ``iterations``, by default as many as the row, or else its config,
    says.

    Raises:
        FileNotFoundError: The config does not exist.
        ValueError: The config cannot be read, lacks what a run needs, or trains by epochs.
    """
    path = row.config if Path(row.config).exists() else config_path(row.config)
    config = read_config(path, *NEEDED, overrides=row.overrides)
    length = config.train_cfg.max_iters
    iterations = iterations or row.iterations or length
    config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations)
    if isinstance(config.param_scheduler, dict):
        config.param_scheduler = [config.param_scheduler]
    for scheduler in config.param_scheduler:
        begin = scheduler.get('begin', 0) * iterations // length
        end = scheduler.get('end', length) * iterations // length
        scheduler.update(begin=begin, end=max(end, begin + 1))
    config.val_cfg = config.val_dataloader = config.val_evaluator = None
    if row.validate_every:
        config.train_cfg.val_interval = row.validate_every
        config.val_cfg = dict(type='ValLoop')
        config.val_dataloader = config.test_dataloader
        config.val_evaluator = config.test_evaluator
    config.default_hooks.checkpoint.update(
        interval=max(iterations // 4, 1), max_keep_ckpts=1, save_best=None
    )
    config.default_hooks.pop('visualization', None)
    config.randomness = dict(seed=seed)
    config.resume = True
    return config


def plan(rows, out, seeds=None, iterations=None, force=False):
    """Write the config of each run into a folder ``out/runs/ROW/seedN``; return these: list[Path].

    They go seed by seed, so that a study that is stopped early has every row. ``seeds`` and
    ``iterations`` are by default each row's own. With ``force``, runs that had other settings go.

    Raises:
        FileNotFoundError: A config does not exist.
        ValueError: Two rows have one name, a config is refused, or a run in the folder had other
            settings.
    """
    names = [row.name for row in rows]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f'rows must differ in their names, got several called {twice[0]!r}')
    planned = [(row, seed) for row in rows for seed in dict.fromkeys(seeds or row.seeds)]
    texts = {}
    for row, seed in sorted(planned, key=itemgetter(1)):
        # MMEngine's own formatting takes a second a config.
        entries = run_config(row, seed, iterations).to_dict().items()
        lines = [f'{name} = {pprint.pformat(value, width=100)}\n' for name, value in entries]
        texts[Path(out, 'runs', row.name, f'seed{seed}')] = ''.join(lines)
    for folder, text in texts.items():
        path = folder / 'settings.py'
        if path.exists() and path.read_text() != text:
            if not force:
                raise ValueError(
                    f'{folder} is a run with other settings; name another folder, or --force '
                    'trains it anew'
                )
            shutil.rmtree(folder)
    for folder, text in texts.items():
        folder.mkdir(parents=True, exist_ok=True)
        with writing(folder / 'settings.py', force=True) as temporary:
            temporary.write_text(text)
    return list(texts)


def finished_results(out):
    """Return the content of each ``result.json`` in a study's folder, with ``row`` and ``seed``."""
    results = []
    for path in sorted(Path(out).glob('runs/*/seed*/result.json')):
        row, seed = path.parts[-3], int(path.parts[-2].removeprefix('seed'))
        results.append(dict(row=row, seed=seed, **json.loads(path.read_text())))
    return results


def execute(folders, jobs=1, device='cpu'):
    """Train and test the runs that have no result yet, each in a process of its own.

    At a time there are ``jobs`` runs, which share the processor cores; ``device`` is ``'cpu'``,
    ``'cuda'`` or ``'cuda:N'``. A run that fails does not stop the others.

    Yields:
        tuple[Path, str | None]: The folder of each run when it has ended, and why it failed.
    """
    environment = dict(os.environ)
    environment['OMP_NUM_THREADS'] = str(max(len(os.sched_getaffinity(0)) // jobs, 1))
    environment.setdefault('OMP_WAIT_POLICY', 'passive')  # threads that wait would take time
    if device != 'cuda':
        number = device.removeprefix('cpu').removeprefix('cuda:')
        if number and (visible := os.environ.get('CUDA_VISIBLE_DEVICES')):
            number = visible.split(',')[int(number)]
        environment['CUDA_VISIBLE_DEVICES'] = number
    executor = ThreadPoolExecutor(jobs)
    try:
        ended = {executor.submit(_run_in_process, each, environment): each for each in folders}
        for future in as_completed(ended):
            yield ended[future], future.result()
    finally:
        executor.shutdown(cancel_futures=True)


def _run_in_process(folder, environment):
    if (folder / 'result.json').exists():
        return None
    command = [sys.executable, '-m', __name__, str(folder)]
    path = folder / 'log.txt'
    with open(path, 'a') as log:
        status = subprocess.call(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    last = path.read_text(errors='replace').rstrip().rpartition('\n')[2].strip()[:200]
    return f'exit status {status}, see {path}: {last}' if status else None


class _CurveHook(Hook):
    """Adds the metrics of each validation to a file."""

    def __init__(self, path):
        self.path = path

    def after_val_epoch(self, runner, metrics=None):
        with open(self.path, 'a') as file:
            file.write(json.dumps(dict(iteration=runner.iter, **metrics), default=float) + '\n')


def train_and_test(config):
    """Train a model, or go on from its last checkpoint, and test it.

    Returns:
        dict: ``metrics`` of each test by its name, ``'model'`` or a context-aware classifier's
        ``'prior'``, ``'refined'`` and ``'oracle'``; ``curve``, the metrics of each validation with
        its ``iteration``; ``parameters``; ``torch``, the version; and ``seconds``, how long all
        this took, without what an interrupted run did before.
    """
    began, path = time.monotonic(), Path(config.work_dir, 'curve.jsonl')
    latest = find_latest_checkpoint(config.work_dir)
    config.update(load_from=latest or config.get('load_from'), resume=bool(latest))
    runner = Runner.from_cfg(config)
    runner.register_hook(_CurveHook(path))
    model = runner.train()
    aware = isinstance(last_head(model), ContextAwareClassifierHead)
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


def do_run(folder):
    """Train and test what ``settings.py`` in a run's folder says, and write ``result.json``."""
    config = Config.fromfile(Path(folder, 'settings.py'))
    config.work_dir = str(Path(folder, 'work_dir'))
    result = train_and_test(config)
    with writing(Path(folder, 'result.json'), force=True) as temporary:
        temporary.write_text(json.dumps(result, indent=1))


if __name__ == '__main__':
    do_run(sys.argv[1])

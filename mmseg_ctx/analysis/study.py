"""Trains many configs with several seeds; finished runs are not repeated."""

import json
import os
import pprint
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from mmseg_ctx.utils.configs import config_path, read_config
from mmseg_ctx.utils.files import writing

# Settings that a run needs in its config, or that this module changes.
NEEDED = (
    *('model', 'train_cfg', 'train_dataloader', 'test_cfg', 'test_dataloader', 'test_evaluator'),
    *('optim_wrapper', 'param_scheduler', 'default_hooks.checkpoint'),
)


class Run(NamedTuple):
    """A row of a study with a seed.

    Its folder has ``settings.py``, ``log.txt``, ``work_dir`` and, at the end, ``result.json``.
    ``start`` is the run that gives this one its first weights, or None.
    """

    name: str
    seed: int
    folder: Path
    start: 'Run | None' = None


def run_config(row, seed, iterations=None):
    """Return the config (Config) of a row with a seed, without ``work_dir``.

    The schedule is stretched to ``iterations``, by default as many as the row, or else its config,
    says. The entry ``study`` tells ``study_run.py`` the row's ``start_from``.

    Raises:
        FileNotFoundError: The config does not exist.
        ValueError: The config cannot be read, lacks what a run needs, or trains by epochs.
    """
    path = row.config if Path(row.config).exists() else config_path(row.config)
    config = read_config(path, *NEEDED, overrides=dict(row.overrides))
    if row.start_from:
        config.study = dict(start_from=row.start_from)
    length = config.train_cfg.get('max_iters')
    if length is None:
        raise ValueError(f'{row.config} must train by iterations (train_cfg.max_iters)')
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
    """Write the config of each run into its folder below ``out``, and return the runs: list[Run].

    They go seed by seed, so that a study that is stopped early has every row. ``seeds`` and
    ``iterations`` are by default each row's own. With ``force``, runs that had other settings go.

    Raises:
        FileNotFoundError: A config does not exist.
        ValueError: The rows do not fit each other, a config is refused, or a run in the folder had
            other settings.
    """
    names = [row.name for row in rows]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f'rows must differ in their names, got several called {twice[0]!r}')
    planned = [(row, seed) for row in rows for seed in dict.fromkeys(seeds or row.seeds)]
    runs, texts, changed = {}, {}, set()
    for row, seed in sorted(planned, key=itemgetter(1)):
        start = runs.get((row.start_from, seed))
        if row.start_from and not start:
            raise ValueError(
                f'row {row.name!r} starts from {row.start_from!r}, which is not trained before it '
                f'with seed {seed}'
            )
        run = Run(row.name, seed, Path(out) / 'runs' / row.name / f'seed{seed}', start)
        runs[row.name, seed] = run
        # MMEngine's own formatting takes a second a config.
        entries = run_config(row, seed, iterations).to_dict().items()
        lines = [f'{name} = {pprint.pformat(value, width=100)}\n' for name, value in entries]
        texts[run] = ''.join(lines)
        path = run.folder / 'settings.py'
        if start in changed or (path.exists() and path.read_text() != texts[run]):
            changed.add(run)
            if not force:
                raise ValueError(
                    f'{run.folder} is a run with other settings; name another folder, or --force '
                    'trains it anew'
                )
    for run, text in texts.items():
        if run in changed:
            shutil.rmtree(run.folder, ignore_errors=True)
        run.folder.mkdir(parents=True, exist_ok=True)
        with writing(run.folder / 'settings.py', force=True) as temporary:
            temporary.write_text(text)
    return list(texts)


def finished_results(out):
    """Return the content of each ``result.json`` in a study's folder, with ``row`` and ``seed``."""
    results = []
    for path in sorted(Path(out).glob('runs/*/seed*/result.json')):
        row, seed = path.parts[-3:-1]
        seed = int(seed.removeprefix('seed'))
        results.append(dict(row=row, seed=seed, **json.loads(path.read_text())))
    return results


def execute(runs, jobs=1, device='cpu'):
    """Train and test the runs that have no result yet, each in a process of its own.

    At a time there are ``jobs`` runs, which share the processor cores; ``device`` is ``'cpu'``,
    ``'cuda'`` or ``'cuda:N'``. A run that fails does not stop the others.

    Yields:
        tuple[Run, str | None]: Each run when it has ended, and why it failed.
    """
    environment = dict(os.environ)
    environment['OMP_NUM_THREADS'] = str(max(len(os.sched_getaffinity(0)) // jobs, 1))
    if device != 'cuda':
        number = device.removeprefix('cpu').removeprefix('cuda:')
        if number and (visible := os.environ.get('CUDA_VISIBLE_DEVICES')):
            number = visible.split(',')[int(number)]
        environment['CUDA_VISIBLE_DEVICES'] = number
    futures = {}

    def work(run):
        if (run.folder / 'result.json').exists():
            return run, None
        # The executor began that run earlier, so it never waits for this one.
        if run.start in futures and futures[run.start].result()[1]:
            return run, 'the run that it starts from failed'
        return run, _train(run.folder, environment)

    executor = ThreadPoolExecutor(jobs)
    try:
        for run in runs:
            futures[run] = executor.submit(work, run)
        for future in as_completed(futures.values()):
            yield future.result()
    finally:
        executor.shutdown(cancel_futures=True)


def _train(folder, environment):
    """Do a run in a process; return None, or why it failed."""
    command = [sys.executable, '-m', 'mmseg_ctx.analysis.study_run', str(folder)]
    path = folder / 'log.txt'
    with open(path, 'a') as log:
        status = subprocess.call(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    if status == 0:
        return None
    last = path.read_text(errors='replace').rstrip().rpartition('\n')[2].strip()[:200]
    return f'exit status {status}, see {path}: {last or "nothing was printed"}'

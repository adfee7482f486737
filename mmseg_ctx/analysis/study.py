"""Trains many configs with several seeds; finished runs are not repeated."""

import json
import os
import pprint
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from mmseg_ctx.utils.configs import config_path, read_config
from mmseg_ctx.utils.files import writing

# What a run needs of its config, or this module changes.
NEEDED = (
    *('model', 'train_cfg', 'train_dataloader', 'test_cfg', 'test_dataloader', 'test_evaluator'),
    *('optim_wrapper', 'param_scheduler', 'default_hooks.checkpoint'),
)


class Run(NamedTuple):
    """A row of a study with a seed.

    Attributes:
        name (str): Name of the row.
        seed (int): Seed of everything random.
        folder (Path): Has ``settings.py``, ``log.txt``, ``work_dir`` and, at the end,
            ``result.json``.
        start (Run | None): The run that gives this one its first weights. Default: None.
    """

    name: str
    seed: int
    folder: Path
    start: 'Run | None' = None

    def is_finished(self):
        """Whether the run has a result."""
        return (self.folder / 'result.json').exists()


def run_config(row, seed, iterations=None):
    """Return the config of a run.

    Args:
        row (Row): What to train.
        seed (int): Seed of everything random.
        iterations (int | None): How long to train; the schedule is stretched. Default: as long as
            the row, or else its config, says.

    Returns:
        Config: Without ``work_dir``. Its entry ``study`` tells ``study_run.py`` the row's
        ``start_from``.

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
    """Write the config of each run into its folder.

    Args:
        rows (Sequence[Row]): What to train; a row comes after the one that it starts from.
        out (Path): The study's folder.
        seeds (Sequence[int] | None): Seeds of each row. Default: the row's own.
        iterations (int | None): See :func:`run_config`.
        force (bool): Whether to train runs anew that had other settings. Default: False.

    Returns:
        list[Run]: Seed by seed, so that a study that is stopped early has every row.

    Raises:
        ValueError: The rows do not fit each other, a config is refused, or a run in the folder had
            other settings and ``force`` is False.
    """
    names = [row.name for row in rows]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f'rows must differ in their names, got several called {name!r}')
    runs, texts = {}, {}
    planned = [(row, seed) for row in rows for seed in dict.fromkeys(seeds or row.seeds)]
    for row, seed in sorted(planned, key=lambda each: each[1]):
        start = runs.get((row.start_from, seed))
        if row.start_from and not start:
            raise ValueError(
                f'row {row.name!r} starts from {row.start_from!r}, which is not trained with seed '
                f'{seed}'
            )
        run = Run(row.name, seed, Path(out) / 'runs' / row.name / f'seed{seed}', start)
        runs[row.name, seed] = run
        # MMEngine's own formatting takes a second a config.
        entries = run_config(row, seed, iterations).to_dict().items()
        lines = [f'{name} = {pprint.pformat(value, width=100)}\n' for name, value in entries]
        texts[run] = ''.join(lines)
    other = []
    for run, text in texts.items():
        path = run.folder / 'settings.py'
        if (path.exists() and path.read_text() != text) or run.start in other:
            other.append(run)
    if other and not force:
        raise ValueError(
            f'{other[0].folder} is a run with other settings; name another folder, or --force '
            'trains it anew'
        )
    for run in other:
        shutil.rmtree(run.folder, ignore_errors=True)
    for run, text in texts.items():
        run.folder.mkdir(parents=True, exist_ok=True)
        with writing(run.folder / 'settings.py', force=True) as temporary:
            temporary.write_text(text)
    return list(texts)


def finished_results(out):
    """Return the results in a study's folder, sorted by row and seed.

    Returns:
        list[dict]: The content of each ``result.json``, with ``row`` and ``seed``.
    """
    results = []
    for path in Path(out).glob('runs/*/seed*/result.json'):
        *_, row, seed, _ = path.parts
        place = dict(row=row, seed=int(seed.removeprefix('seed')))
        results.append({**place, **json.loads(path.read_text())})
    return sorted(results, key=lambda result: (result['row'], result['seed']))


def execute(runs, jobs=1, device='cpu'):
    """Train and test the runs that have no result yet, each in a process of its own.

    A run writes what it prints to its ``log.txt``. A run that fails does not stop the others.

    Args:
        runs (Sequence[Run]): From :func:`plan`.
        jobs (int): How many run at a time; they share the processor cores. Default: 1.
        device (str): ``'cpu'``, ``'cuda'`` or ``'cuda:N'``. Default: ``'cpu'``.

    Yields:
        tuple[Run, str | None]: Each run when it has ended, and why it failed.
    """
    threads = str(max(len(os.sched_getaffinity(0)) // jobs, 1))
    environment = {**os.environ, 'OMP_NUM_THREADS': threads, **_visible(device)}
    executor = ThreadPoolExecutor(jobs)
    try:
        futures = {}
        for run in runs:
            start = futures.get(run.start)
            futures[run] = executor.submit(_execute, run, environment, start)
        ended = {future: run for run, future in futures.items()}
        for future in as_completed(ended):
            yield ended[future], future.result()
    finally:
        executor.shutdown(cancel_futures=True)


def _visible(device):
    """Return the environment variable that leaves a process one GPU, none or all it has."""
    if device == 'cuda':
        return {}
    number = '' if device == 'cpu' else device.removeprefix('cuda:')
    if number and (visible := os.environ.get('CUDA_VISIBLE_DEVICES')):
        number = visible.split(',')[int(number)]
    return dict(CUDA_VISIBLE_DEVICES=number)


def _execute(run, environment, start):
    """Do a run once the run that it starts from has ended; return None, or why it failed."""
    if run.is_finished():
        return None
    # The executor began that run earlier, so it never waits for this one.
    if start and start.result():
        return 'the run that it starts from failed'
    command = [sys.executable, '-m', 'mmseg_ctx.analysis.study_run', str(run.folder)]
    path = run.folder / 'log.txt'
    with open(path, 'a') as log:
        status = subprocess.call(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    if status == 0:
        return None
    lines = path.read_text(errors='replace').split('\n')
    last = next((line for line in reversed(lines) if line.strip()), 'nothing was printed')
    return f'exit status {status}, see {path}: {last.strip()[:200]}'

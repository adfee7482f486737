"""Resume a killed run so that its losses are those of an unbroken run."""

import random
import re
import zipfile
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import barrier, get_rank, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, find_latest_checkpoint
from torch.utils.data import get_worker_info

from mmseg_ctx.checkpoints.stand_ins import only_stand_ins


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Makes ``--resume`` continue from a whole checkpoint, with the losses of an unbroken run.

    MMEngine restores weights, optimizer, schedule and the order of the images, but not the state of
    the random number generators, which dropout and augmentation use. With this hook the random
    numbers of an iteration depend only on the run's seed, the rank and the iteration, so there is
    no state to save. If the config sets no seed, the hook takes the seed from the checkpoint.

    The hook recognizes a checkpoint that a kill or a full disk cut short, and resumes from the
    newest whole one before it.

    A fine-tuning run, whose ``load_from`` is outside its ``work_dir``, resumes from its own last
    checkpoint. If it has none yet, it starts with the weights of ``load_from``.

    The configs of this package have the hook in ``default_hooks``. MMEngine merges these by key, so
    a ``custom_hooks`` list in an inheriting config does not replace the hook. Other configs add it
    with ``default_hooks = dict(exact_resume=dict(type='ExactResumeHook'))``.

    MMEngine's ``FlexibleRunner`` (FSDP, DeepSpeed) loads the checkpoint before it calls a hook, so
    this hook can change neither the checkpoint nor the seed there. Call
    ``choose_whole_checkpoint`` before such a run.
    """

    def before_run(self, runner):
        """Let a run that resumes load its newest whole checkpoint and use the seed in it.

        Raises:
            RuntimeError: The last checkpoint is cut short, and there is no other.
        """
        # FlexibleRunner has already loaded its checkpoint, and a test has no training to resume.
        training = isinstance(runner._train_loop, BaseLoop)
        if not runner._resume or runner._has_loaded or not training:
            return
        if not _is_inside(runner._load_from, runner.work_dir):
            if is_main_process():
                choose_whole_checkpoint(runner.work_dir, runner.logger.warning)
            barrier()
            last = find_latest_checkpoint(runner.work_dir)
            runner._resume = last is not None
            if runner._load_from and not last:
                runner.logger.warning(
                    f'{runner.work_dir} has no checkpoint to resume from: the run starts with the '
                    f'weights of {runner._load_from}'
                )
            runner._load_from = last or runner._load_from
        if runner._resume:
            _restore_seed(runner, runner._load_from)

    def before_train(self, runner):
        """Seed each image's augmentation."""
        loader = runner.train_dataloader
        if hasattr(loader.sampler, 'seed'):
            loader.sampler.seed = runner.seed
        # If the sampler cannot skip images, worker processes load the past ones again.
        skips = loader.num_workers == 0 or hasattr(loader.sampler, 'skip')
        iteration = runner.iter if skips else 0
        self._step = _SeedImage((runner.seed, get_rank()), loader.batch_size, iteration)
        for dataset in _without_wrappers(loader.dataset):
            dataset.pipeline.transforms.insert(0, self._step)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        """Seed the model's random numbers, such as those of dropout."""
        torch.manual_seed(_mix(runner.seed, get_rank(), runner.iter))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Seed the images of the next iteration, where this process loads them."""
        self._step.iteration = runner.iter + 1


def _is_inside(checkpoint, folder):
    return checkpoint is not None and Path(checkpoint).resolve().parent == Path(folder).resolve()


def _restore_seed(runner, checkpoint):
    """Seed a run with the seed in a checkpoint, before the order of its images is drawn."""
    with only_stand_ins():
        content = torch.load(checkpoint, map_location='cpu', mmap=True, weights_only=True)
    meta = content['meta']
    if meta.get('seed') not in (None, runner.seed):
        runner.set_randomness(**{**runner._randomness_cfg, 'seed': meta['seed']})
        # Upstream MMEngine's loop has started its workers already, with the old seed.
        runner._train_loop = runner.build_train_loop(runner.cfg.train_cfg)


class _SeedImage:
    """First transform of a pipeline: seeds by the run's seed, the iteration and the batch position.

    Attributes:
        iteration (int): The iteration for which the next images are loaded. In a worker process,
            the iteration of the first images that the workers load.
    """

    def __init__(self, seed, batch_size, iteration):
        self.seed = seed
        self.batch_size = batch_size
        self.iteration = iteration
        self.drawn = 0

    def __call__(self, results):
        batch, place = divmod(self.drawn, self.batch_size)
        iteration = self.iteration
        worker = get_worker_info()
        if worker is not None:  # workers take batches in turn
            iteration += batch * worker.num_workers + worker.id
        seed = _mix(*self.seed, iteration, place)
        np.random.seed(seed)
        random.seed(seed)
        self.drawn += 1
        return results


def _mix(*numbers):
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _without_wrappers(dataset):
    """Yield the data sets inside ``ConcatDataset``, ``RepeatDataset`` and the like."""
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if inner == [None]:
        yield dataset
    else:
        for part in inner:
            yield from _without_wrappers(part)


def choose_whole_checkpoint(work_dir, warn=print):
    """Let the file ``last_checkpoint``, which MMEngine resumes from, name a whole checkpoint.

    Args:
        work_dir (str | Path): Folder of a run.
        warn (Callable[[str], None]): Called with a message if another checkpoint is chosen.
            Default: ``print``.

    Raises:
        RuntimeError: The checkpoint in ``last_checkpoint`` is missing or cut short, and the folder
            has no whole one.
    """
    pointer = Path(work_dir, 'last_checkpoint')
    if not pointer.exists():
        return
    last = Path(pointer.read_text().strip() or 'nothing')
    if is_whole(last):
        return
    names = [path for path in Path(work_dir).iterdir() if _iteration(path) is not None]
    others = sorted(names, key=_iteration, reverse=True)
    whole = next((path for path in others if path.name != last.name and is_whole(path)), None)
    if whole is None:
        raise RuntimeError(
            f'{pointer} names {last}, which is missing or cut short, and {work_dir} has no other '
            'whole iter_*.pth: start again without --resume, or name one with load_from'
        )
    warn(f'{last} is missing or cut short; resuming from {whole}')
    pointer.write_text(str(whole))


def is_whole(path):
    """Return whether a checkpoint's file is complete, by its checksums.

    A sharded checkpoint, which is a folder, counts as complete.
    """
    path = Path(path)
    if path.is_dir():
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def _iteration(path):
    """Return the iteration in the name of a run's checkpoint, None for any other file."""
    name = re.fullmatch(r'iter_(\d+)\.pth', path.name)
    return name and int(name[1])

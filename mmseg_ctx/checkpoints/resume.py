"""Runs that are killed and resumed, and go on as if they had not been."""

import random
import zipfile
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import barrier, get_rank, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch.utils.data import get_worker_info


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Makes ``--resume`` continue from a whole checkpoint, with the losses of an unbroken run.

    MMEngine brings back weights, optimizer, schedule and the order of the images, but no random
    numbers: dropout and augmentation go on with others. With this hook those of an iteration
    depend on the run's seed, the rank and the iteration alone, so there is no state to save.

    A checkpoint that a kill or a full disk cut short is recognized, and the newest whole one before
    it takes its place.

    With upstream MMEngine the run needs a ``randomness.seed``; the maintained fork draws one and
    takes it back from the checkpoint.
    """

    def before_run(self, runner):
        """Point a run that resumes at the newest whole checkpoint.

        Raises:
            RuntimeError: The last checkpoint is cut short, and there is no other.
        """
        if runner.cfg.get('resume') and not runner.cfg.get('load_from'):
            if is_main_process():
                choose_whole_checkpoint(runner.work_dir, runner.logger.warning)
            barrier()

    def before_train(self, runner):
        """Seed each image's augmentation."""
        loader = runner.train_dataloader
        if hasattr(loader.sampler, 'seed'):
            loader.sampler.seed = runner.seed
        # MMEngine either skips the images that were seen, or loads them again.
        start = runner.iter if hasattr(loader.sampler, 'skip') else 0
        step = _SeedImage((runner.seed, get_rank()), loader.batch_size, start)
        for dataset in _without_wrappers(loader.dataset):
            dataset.pipeline.transforms.insert(0, step)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        """Seed the model's own random numbers, dropout's for instance."""
        torch.manual_seed(_mix(runner.seed, get_rank(), runner.iter))


class _SeedImage:
    """First step of a pipeline: random numbers that depend on seed, iteration and place in it."""

    def __init__(self, seed, batch_size, start):
        self.seed = seed
        self.batch_size = batch_size
        self.start = start
        self.drawn = 0

    def __call__(self, results):
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        batch, place = divmod(self.drawn, self.batch_size)
        # The loader's workers take batches in turn.
        seed = _mix(*self.seed, self.start + batch * workers + number, place)
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
    """Make ``last_checkpoint``, which MMEngine resumes from, name a whole one.

    Args:
        work_dir (str | Path): Folder of a run.
        warn (Callable[[str], None]): Told when another checkpoint is taken. Default: ``print``.

    Raises:
        RuntimeError: The one that it names is cut short, and the folder has no other.
    """
    pointer = Path(work_dir, 'last_checkpoint')
    if not pointer.exists():
        return
    last = Path(pointer.read_text().strip() or 'nothing')
    if is_whole(last):
        return
    others = sorted(Path(work_dir).glob('iter_*.pth'), key=_iteration, reverse=True)
    whole = next((path for path in others if path.name != last.name and is_whole(path)), None)
    if whole is None:
        raise RuntimeError(
            f'{pointer} names {last}, which is missing or cut short, and {work_dir} has no other '
            'whole iter_*.pth: start again without --resume, or name one with load_from'
        )
    warn(f'{last} is missing or cut short; resuming from {whole}')
    pointer.write_text(str(whole))


def is_whole(path):
    """Whether a checkpoint's file has all that was to be written, by its checksums.

    A folder, which sharded checkpoints are, is taken to be whole.
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
    return int(path.stem.removeprefix('iter_'))

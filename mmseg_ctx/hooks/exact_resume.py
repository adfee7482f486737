"""Resume a killed run so that it has the losses of an unbroken run."""

import random
import re
import zipfile
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.dist import barrier, get_rank, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, find_latest_checkpoint


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Makes ``--resume`` continue from a whole checkpoint, with the losses of an unbroken run.

    MMEngine restores weights, optimizer, schedule and the order of the images, but no random number
    generator. With this hook the random numbers of Python, NumPy and PyTorch depend only on the
    run's seed, the rank and the iteration, so there is no state to save. Where a run cannot be
    resumed exactly, its log says why before the first iteration.

    The hook passes over a checkpoint that a kill or a full disk cut short. A fine-tuning run, whose
    ``load_from`` is outside its ``work_dir``, resumes from its own last checkpoint; if it has none
    yet, it starts with the weights of ``load_from``.

    A config adds it with ``default_hooks = dict(exact_resume=dict(type='ExactResumeHook'))``, as
    the configs of this package do.

    MMEngine's ``FlexibleRunner`` (FSDP, DeepSpeed) loads the checkpoint before it calls a hook: set
    ``randomness.seed`` there, and call ``choose_whole_checkpoint`` before the run.
    """

    has_optimizer = True

    def before_run(self, runner):
        """Let a run that resumes load its newest whole checkpoint.

        Raises:
            RuntimeError: The last checkpoint is cut short, and there is no other.
        """
        self.first_seed = runner.seed
        # FlexibleRunner has already loaded its checkpoint, and a test has no training to resume.
        training = isinstance(runner._train_loop, BaseLoop) and not runner._has_loaded
        folder = Path(runner._load_from).resolve().parent if runner._load_from else None
        if runner._resume and training and folder != Path(runner.work_dir).resolve():
            if is_main_process():
                choose_whole_checkpoint(runner.work_dir, runner.logger.warning)
            barrier()
            last = find_latest_checkpoint(runner.work_dir)
            runner._resume = last is not None
            runner._load_from = last or runner._load_from

    def after_load_checkpoint(self, runner, checkpoint):
        """Notice a checkpoint without the optimizer's state, as MMEngine's ``best_*.pth`` are."""
        self.has_optimizer = not runner._resume or 'optimizer' in checkpoint

    def before_train(self, runner):
        """Seed the sampler and the loading of each batch; say why the run is not exact."""
        loop, loader = runner.train_loop, runner.train_dataloader
        sampler = getattr(loader.batch_sampler, 'sampler', None)
        # MMEngine itself warns of fast_forward_on_resume and of gradients that it accumulated.
        reasons = []
        if not isinstance(sampler, DefaultSampler | InfiniteSampler):
            reasons.append(f'the sampler, {type(sampler).__name__}, is none of MMEngine')
        if not self.has_optimizer:
            reasons.append('the checkpoint has no state of the optimizer')
        if torch.cuda.is_available() and not runner._randomness_cfg.get('deterministic'):
            reasons.append('without randomness.deterministic a GPU does not round sums alike')
        if reasons:
            runner.logger.warning(
                f'Losses after a resume can differ from an unbroken run: {"; ".join(reasons)}'
            )
        if loader.batch_sampler is None:
            return
        if getattr(sampler, 'seed', None) == self.first_seed:
            sampler.seed = runner.seed  # of the checkpoint, if the config sets none
        if isinstance(sampler, InfiniteSampler):
            sampler.indices = sampler._indices_of_rank()
        batches = _SeededBatches(loader.batch_sampler, runner.seed)
        # A data loader takes no other batch sampler while its workers run. Upstream MMEngine has
        # started them already; without the iterator they end.
        vars(loader).update(batch_sampler=batches, _iterator=None)
        if hasattr(loop, 'dataloader_iterator'):
            # A sampler that can skip passes over the past; otherwise MMEngine draws it again.
            batches.position = runner.iter if hasattr(loader.sampler, 'skip') else 0
            loop.dataloader_iterator = type(loop.dataloader_iterator)(loader)
        else:
            batches.position = runner.epoch * len(loader)
            batches.start = runner.iter

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        """Seed the model's random numbers, which dropout draws for instance."""
        _seed(runner.seed, get_rank(), runner.iter)
        torch.manual_seed(torch.initial_seed())  # on every device


class _SeededBatches:
    """Batch sampler around another one, with a seed for each batch."""

    position = 0  # number of the next batch, counted from the beginning of the run
    start = 0  # number of the first batch that is not passed over

    def __init__(self, batch_sampler, seed):
        self.batch_sampler = batch_sampler
        self.seed = seed

    def __getattr__(self, name):
        return getattr(self.batch_sampler, name)

    def __len__(self):
        return len(self.batch_sampler)

    def __iter__(self):
        for batch in self.batch_sampler:
            self.position += 1
            if self.position > self.start:
                # A further number, or images would draw the numbers that the model draws.
                yield _SeededBatch(batch, (self.seed, get_rank(), self.position - 1, 1))


class _SeededBatch:
    """Indices of a batch; iterating first seeds the process, which then loads the images."""

    def __init__(self, indices, seed):
        self.indices = indices
        self.seed = seed

    def __iter__(self):
        _seed(*self.seed)
        return iter(self.indices)


def _seed(*numbers):
    for_torch, for_others = np.random.SeedSequence(numbers).generate_state(2).tolist()
    # Of the CPU alone, which loads the images: torch.manual_seed takes hundreds of times as long.
    torch.random.default_generator.manual_seed(for_torch)
    np.random.seed(for_others)
    random.seed(for_others)


def choose_whole_checkpoint(work_dir, warn=print):
    """Let the file ``last_checkpoint``, which MMEngine resumes from, name a whole checkpoint.

    If it does not, the choice is the last whole one of ``iter_*.pth`` or ``epoch_*.pth`` in the
    run's folder or beside the last checkpoint.

    Args:
        work_dir (str | Path): Folder of a run.
        warn (Callable[[str], None]): Called with a message if another checkpoint is chosen.
            Default: ``print``.

    Raises:
        RuntimeError: No checkpoint is whole.
    """
    pointer = Path(work_dir, 'last_checkpoint')
    if not pointer.exists():
        return
    last = Path(pointer.read_text().strip() or pointer)  # empty after a kill while it was written
    numbers = {}
    for path in (*last.parent.glob('*.pth'), *pointer.parent.glob('*.pth')):
        if name := re.fullmatch(r'(iter|epoch)_(\d+)', path.stem):
            numbers[path] = int(name[2])
    others = sorted(numbers, key=numbers.get, reverse=True)
    whole = next(filter(_is_whole, (last, *others)), None)
    if whole is None:
        raise RuntimeError(
            f'{pointer} names {last}, which is missing or cut short, and {work_dir} has no whole '
            'checkpoint: start again without --resume, or name one with load_from'
        )
    if whole != last:
        warn(f'{last} is missing or cut short; resuming from {whole}')
        pointer.write_text(str(whole))


def _is_whole(path):
    """Return whether a checkpoint is complete: by its checksums, or since it is a folder."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return path.is_dir()

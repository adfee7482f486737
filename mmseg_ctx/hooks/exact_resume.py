"""Resume a killed run so that its losses are those of an unbroken run."""

import random
import re
import zipfile
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import barrier, get_rank, is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, find_latest_checkpoint
from torch.utils.data import IterableDataset


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Makes ``--resume`` continue from a whole checkpoint, with the losses of an unbroken run.

    MMEngine restores weights, optimizer, schedule and the order of the images, but no random number
    generator. With this hook the random numbers of Python, NumPy and PyTorch depend only on the
    run's seed, the rank and the iteration, those of an image also on its place in the batch. So
    there is no state to save, whatever the training loop, sampler, data set, its wrappers and the
    number of workers. Where a run cannot be resumed exactly, one line of the log says why before
    the first iteration.

    The hook passes over a checkpoint that a kill or a full disk cut short. A fine-tuning run, whose
    ``load_from`` is outside its ``work_dir``, resumes from its own last checkpoint; if it has none
    yet, it starts with the weights of ``load_from``.

    The configs of this package have the hook in ``default_hooks``, which MMEngine merges by key.
    Others add ``default_hooks = dict(exact_resume=dict(type='ExactResumeHook'))``.

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
        training = isinstance(runner._train_loop, BaseLoop)
        if not runner._resume or runner._has_loaded or not training:
            return
        given = Path(runner._load_from).resolve() if runner._load_from else None
        if given is None or given.parent != Path(runner.work_dir).resolve():
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

    def after_load_checkpoint(self, runner, checkpoint):
        """Notice a checkpoint without the optimizer's state, as MMEngine's ``best_*.pth`` are."""
        self.has_optimizer = not runner._resume or 'optimizer' in checkpoint

    def before_train(self, runner):
        """Seed the sampler and each image's augmentation; say why the run is not exact."""
        loop, loader = runner.train_loop, runner.train_dataloader
        if reasons := '; '.join(_inexact(runner, self.has_optimizer)):
            runner.logger.warning(
                f'Losses after a resume can differ from an unbroken run: {reasons}'
            )
        if loader.batch_sampler is None:
            return
        sampler = getattr(loader.batch_sampler, 'sampler', None)
        if getattr(sampler, 'seed', None) == self.first_seed:
            sampler.seed = runner.seed  # of the checkpoint, if the config sets none
        if isinstance(sampler, InfiniteSampler):
            sampler.indices = sampler._indices_of_rank()
        batches = _SeededBatches(loader.batch_sampler, runner.seed)
        # A data loader takes no other batch sampler while its workers run. Upstream MMEngine has
        # started them already; without the iterator they end.
        vars(loader).update(batch_sampler=batches, _iterator=None)
        if hasattr(loop, 'dataloader_iterator'):
            # A sampler that can skip passes over the past; otherwise MMEngine loads it again.
            batches.position = runner.iter if hasattr(loader.sampler, 'skip') else 0
            loop.dataloader_iterator = type(loop.dataloader_iterator)(loader)
        else:
            batches.pass_over(runner.epoch, until=runner.iter)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        """Seed the model's random numbers, such as those of dropout."""
        for_torch, for_others = _draw(runner.seed, get_rank(), runner.iter)
        _seed(for_torch, for_others)
        torch.manual_seed(for_torch)  # on every device


def _inexact(runner, has_optimizer):
    """Yield the reasons why a resumed run can have other losses than an unbroken one."""
    loop, loader = runner.train_loop, runner.train_dataloader
    if isinstance(loader.dataset, IterableDataset) or loader.batch_sampler is None:
        yield 'the images of train_dataloader have no indices in batches'
        return
    if getattr(loop, 'fast_forward_on_resume', False):
        yield 'fast_forward_on_resume begins with the first images again'
    if not has_optimizer:
        yield 'the checkpoint has no state of the optimizer'
    counts = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
    for hook in (hook for hook in runner.hooks if isinstance(hook, CheckpointHook)):
        if not (hook.save_optimizer and hook.save_param_scheduler):
            yield 'the checkpoints lack the state of the optimizer or of the schedule'
        if hook.interval * (len(loader) if hook.by_epoch else 1) % counts:
            yield f'checkpoints are saved while gradients of {counts} iterations are accumulated'
    if torch.cuda.is_available() and not runner._randomness_cfg.get('deterministic'):
        yield 'without randomness.deterministic a GPU does not round sums alike'


class _SeededBatches:
    """Batch sampler around another one, which it seeds, with a seed for each image."""

    def __init__(self, batch_sampler, seed):
        self.batch_sampler = batch_sampler
        self.seed = seed
        self.position = 0  # number of the next batch, counted from the beginning of the run
        self.start = 0  # number of the first batch that is not passed over

    def __getattr__(self, name):
        return getattr(self.batch_sampler, name)

    def __len__(self):
        return len(self.batch_sampler)

    def __iter__(self):
        batches = iter(self.batch_sampler)
        while True:
            # For a sampler that draws from a global generator, alike in all ranks.
            for_others, for_torch = _draw(self.seed, self.position, 0, 0, 1)
            _seed(for_torch, for_others)
            batch = next(batches, None)
            if batch is None:
                return
            self.position += 1
            if self.position > self.start:
                yield _SeededBatch(batch, (self.seed, get_rank(), self.position - 1))

    def pass_over(self, epochs, until):
        """Draw the past batches, for a sampler with a state of its own, and load no image."""
        self.start = until
        for epoch in range(epochs):
            if hasattr(self.sampler, 'set_epoch'):
                self.sampler.set_epoch(epoch)
            for _ in self:
                pass


class _SeededBatch:
    """Indices of a batch; iterating seeds the process before it loads the image of each."""

    def __init__(self, indices, seed):
        self.indices = indices
        self.seed = seed

    def __len__(self):
        return len(self.indices)

    def __iter__(self):
        for place, index in enumerate(self.indices):
            for_others, for_torch = _draw(*self.seed, place)
            _seed(for_torch, for_others)
            yield index


def _draw(*numbers):
    return np.random.SeedSequence(numbers).generate_state(2).tolist()


def _seed(for_torch, for_others):
    # Of the CPU alone, which loads the images: torch.manual_seed takes hundreds of times as long.
    torch.random.default_generator.manual_seed(for_torch)
    np.random.seed(for_others)
    random.seed(for_others)


def choose_whole_checkpoint(work_dir, warn=print):
    """Let the file ``last_checkpoint``, which MMEngine resumes from, name a whole checkpoint.

    If it does not, the choice is the highest number among the files ``*_NUMBER.pth`` in the run's
    folder and beside the last checkpoint, and only then among ``best_*``, without an optimizer.

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
    if is_whole(last):
        return
    names = [*last.parent.glob('*.pth'), *pointer.parent.glob('*.pth')]
    others = sorted(filter(_order, names), key=_order, reverse=True)
    whole = next(filter(is_whole, others), None)
    if whole is None:
        raise RuntimeError(
            f'{pointer} names {last}, which is missing or cut short, and {work_dir} has no whole '
            'checkpoint: start again without --resume, or name one with load_from'
        )
    warn(f'{last} is missing or cut short; resuming from {whole}')
    pointer.write_text(str(whole))


def is_whole(path):
    """Return whether a checkpoint is complete: by its checksums, or since it is a folder."""
    if Path(path).is_dir():
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def _order(path):
    """Return a checkpoint's place, those of the best scores before the others; or None."""
    name = re.fullmatch(r'(best_)?.*_(\d+)\.pth', path.name)
    return name and (name[1] is None, int(name[2]))

"""What a training step of a config needs on each GPU, without a GPU and without computing it.

The step runs on PyTorch's fake tensors, which have shapes and no values, while a dispatch mode adds
up the storages that live. What an operation allocates and frees within itself is not seen: the
tiles of losses that are one operation, and workspaces of cuDNN.
"""

import copy
import weakref
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmseg_ctx.analysis.compared import labelled_samples
from mmseg_ctx.utils.configs import read_config
from mmseg_ctx.utils.models import build
from mmseg_ctx.utils.tables import Column, Table

GPUS = (8, 12, 24, 80)  # GB
SEGMENTORS = ('EncoderDecoder', 'CascadeEncoderDecoder')
OURS = 'MemoryEfficient'  # before the name of one of them
aten = torch.ops.aten


class TrainingMemory(NamedTuple):
    """Bytes that a training step needs."""

    parameters: int  # weights and buffers
    gradients: int  # one for each weight that is trained
    optimizer: int  # the optimizer's state
    activations: int  # what the forward pass keeps for the backward pass, with the images
    peak: int  # all that lives at once, at the most


class _LiveBytes(TorchDispatchMode):
    """Adds up the storages that live, and lets operations on fake values go on.

    Where the size of a result depends on values, every pixel counts: no label is ignored. A number
    that is read from a tensor is 1.
    """

    def __init__(self):
        super().__init__()
        self.known = set()
        self.live = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is aten._local_scalar_dense.default:
            return 1.0 if args[0].is_floating_point() else 1
        if func is aten.index.Tensor:
            args = (args[0], [each for index in args[1] for each in self._numbers(index)])
        if func is aten.nonzero.default:
            out = args[0].new_empty(args[0].numel(), args[0].ndim, dtype=torch.long)
        else:
            out = func(*args, **kwargs or {})
        self._add(*tree_leaves(out))
        return out

    def _numbers(self, index):
        """Return, for a mask, the indices of all of its elements."""
        if index is None or index.dtype not in (torch.bool, torch.uint8):
            return [index]
        numbers = [index.new_empty(index.numel(), dtype=torch.long) for _ in range(index.ndim)]
        self._add(*numbers)
        return numbers

    def _add(self, *values):
        for value in values:
            storage = value.untyped_storage() if isinstance(value, torch.Tensor) else None
            if storage is not None and storage._cdata not in self.known:
                self.known.add(storage._cdata)
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._remove, storage._cdata, storage.nbytes())

    def _remove(self, identity, size):
        self.known.remove(identity)
        self.live -= size


def training_memory(config):
    """Return what a training step of a config needs on each of its GPUs.

    Args:
        config (mmengine.Config): The whole config. Its batch, crop and optimizer count;
            synchronised batch norm counts as plain, automatic mixed precision as bfloat16.

    Returns:
        TrainingMemory: The bytes, without what DDP adds and without CUDA's context.

    Raises:
        ValueError: The config does not say the size of its crops.
    """
    size = config.get('crop_size') or (config.model.get('data_preprocessor') or {}).get('size')
    if size is None:
        raise ValueError(f'{config.filename} has no crop_size, the size of an image in training')
    batch, wrapper = config.train_dataloader.batch_size, config.optim_wrapper.to_dict()
    model = revert_sync_batchnorm(build({**copy.deepcopy(config.model), 'pretrained': None}))
    with FakeTensorMode(allow_non_fake_inputs=True), _LiveBytes() as memory:
        model.to_empty(device='cpu').train()
        own = ('optimizer', 'clip_grad')  # rates of single weights take no memory
        optim = build_optim_wrapper(model, {key: wrapper[key] for key in own if key in wrapper})
        trained = [each for each in model.parameters() if each.requires_grad]
        for weight in trained:
            weight.grad = torch.empty_like(weight)
        gradients = _bytes([weight.grad for weight in trained])
        optim.step()
        optim.zero_grad()
        memory.peak = before = memory.live
        images = torch.empty(batch, 3, *size)
        samples = labelled_samples(batch, size, model.num_classes)
        mixed = wrapper.get('type') == 'AmpOptimWrapper'
        with torch.autocast('cpu', torch.bfloat16, enabled=mixed):
            losses = model.loss(images, samples)
        loss, _ = model.parse_losses(losses)
        del losses
        activations = memory.live - before
        optim.update_params(loss)
        return TrainingMemory(
            parameters=_bytes([*model.parameters(), *model.buffers()]),
            gradients=gradients,
            optimizer=_bytes([*optim.optimizer.state.values()]),
            activations=activations,
            peak=memory.peak,
        )


def _bytes(tree):
    return sum(each.nbytes for each in tree_leaves(tree) if isinstance(each, torch.Tensor))


def memory_table(paths):
    """Return the table of configs, each with our segmentor and with MMSegmentation's."""
    columns = (
        Column('config', 'config'),
        Column('images', 'images'),
        *(Column(name, f'{name} [GiB]', _gib) for name in TrainingMemory._fields),
        Column('fits', 'fits into [GB]'),
        Column('stock_peak', "MMSegmentation's peak [GiB]", _gib),
        Column('stock_fits', 'fits into [GB] '),  # PrettyTable asks for titles that differ
    )
    facts = (
        'What each GPU needs for a training step, counted without computing. Activations are what '
        'the forward pass keeps; the peak is all that lives at once, at the most.',
        'The peak fits, and in a config for several GPUs the gradients once more, which DDP keeps, '
        'into so many 10^9 bytes; what a card has beyond that is for CUDA itself.',
    )
    return Table('Memory of a training step', columns, list(map(_memory_row, paths)), facts)


def _memory_row(path):
    needed = ('model.type', 'train_dataloader.batch_size', 'optim_wrapper.optimizer')
    config = read_config(path, *needed)
    kind = config.model.type.removeprefix(OURS)
    if kind not in SEGMENTORS:
        raise ValueError(f'{path}: model.type must be one of {SEGMENTORS}, got {kind!r}')
    name = Path(path).stem
    row = dict(config=name, images=config.train_dataloader.batch_size)
    for prefix, segmentor in (('', OURS + kind), ('stock_', kind)):
        config.model.type = segmentor
        memory = training_memory(config)
        row |= {prefix + key: value for key, value in memory._asdict().items()}
        needed = memory.peak + ('_1xb' not in name) * memory.gradients
        fitting = [size for size in GPUS if needed <= size * 10**9]
        row[f'{prefix}fits'] = str(fitting[0]) if fitting else f'more than {GPUS[-1]}'
    return row


def _gib(value):
    return f'{value / 2**30:.2f}'

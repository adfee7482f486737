"""Logits that know how they are to be resized."""

from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmengine.logging import print_log

# As torch.compiler.disable, but imports the compiler at the first call alone.
from torch._compile import _disable_dynamo
from torch.utils._pytree import register_pytree_node

from mmseg_ctx.ops.interpolation import Interpolation
from mmseg_ctx.ops.labels import check_labels
from mmseg_ctx.ops.pixel_losses import pixel_losses, upsampled_cross_entropy
from mmseg_ctx.ops.precision import at_least_float32
from mmseg_ctx.ops.resized_logits import ResizedLogits, predicted_labels

_LOGGED = set()  # Names of the operations that a line of the log has named.


class _TensorLike:
    """Stands for the tensor that ``full`` returns, by PyTorch's protocol ``__torch_function__``.

    A method or function that the class does not define is applied to that tensor.
    """

    ndim = 4

    def size(self, dim=None):
        """Return the shape, or the length of one dimension, as ``Tensor.size`` does."""
        return self.shape if dim is None else self.shape[dim]

    def dim(self):
        """Return the number of dimensions."""
        return self.ndim

    def __len__(self):
        return self.shape[0]

    def __getattr__(self, name):
        if name.startswith('_'):
            raise AttributeError(name)
        return getattr(self.full(name), name)

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = func.__name__
        subject = args[0] if args else kwargs.get('input')
        if name in cls.FUNCTIONS and isinstance(subject, cls):
            kwargs.pop('input', None)
            return getattr(cls, name)(subject, *args[1:], **kwargs)
        return func(*_full(args, name), **_full(kwargs, name))


def full_size(value):
    """Return tensors in the place of resizable logits, also inside lists, tuples and dicts."""
    return _full(value, None)


def _full(value, name):
    """Replace each tensor-like object in arguments by its tensor."""
    if isinstance(value, _TensorLike):
        return value.full(name)
    if isinstance(value, dict):
        return {key: _full(each, name) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)([_full(each, name) for each in value])
    return value


def _operator(name):
    def operator(self, *args):
        return getattr(self.full(name), name)(*_full(args, name))

    return operator


# Python looks these up in the class, not by ``__getattr__``.
for _name in (
    *('getitem', 'setitem', 'iter', 'array', 'neg', 'abs', 'eq', 'ne', 'lt', 'le', 'gt', 'ge'),
    *('add', 'radd', 'sub', 'rsub', 'mul', 'rmul', 'truediv', 'rtruediv', 'pow', 'rpow', 'matmul'),
    *('iadd', 'isub', 'imul', 'itruediv', 'mod', 'floordiv'),
):
    setattr(_TensorLike, f'__{_name}__', _operator(f'__{_name}__'))
_TensorLike.__hash__ = object.__hash__


@contextmanager
def _recorded():
    """Let autograd record, since the tensor that an object stands for exists before ``no_grad``."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


@dataclass(init=False, repr=False, eq=False)  # FSDP looks for tensors in the fields of an output
class ResizableLogits(_TensorLike):
    """Small logits, and the size to which they are to be resized bilinearly.

    The object stands for the resized logits ``[B, N, H, W]``. These operations make no tensor of
    that size:

    - ``F.interpolate`` (and MMSegmentation's ``resize``) returns another such object,
    - ``F.cross_entropy`` with a map of classes computes the loss of each pixel tile by tile,
    - ``argmax``, ``max`` and ``topk`` with ``k=1`` over the classes compute the best class tile by
      tile,
    - ``softmax`` over the classes with ``gather`` of one class for each pixel, as in
      MMSegmentation's ``OHEMPixelSampler``.

    Any other operation makes the resized logits. From then on the object holds these, so that it
    also behaves like a tensor if an operation changes it in place. A line in the log names the
    operation.

    Args:
        small (Tensor): Logits as a head computes them, ``[B, N, h, w]``.
        size (Sequence[int] | None): H and W. Default: None, for h and w.
        align_corners (bool): ``align_corners`` of the resizing. Default: False.

    Example:
        >>> logits = ResizableLogits(torch.randn(2, 6, 8, 8))
        >>> logits = F.interpolate(logits, (60, 61), mode='bilinear')
        >>> logits.argmax(1).shape
        torch.Size([2, 60, 61])
    """

    FUNCTIONS = ('interpolate', 'cross_entropy', 'argmax', 'max', 'topk', 'softmax')

    small: torch.Tensor

    def __init__(self, small, size=None, align_corners=False):
        self.small, self.align_corners = small, bool(align_corners)
        self.image_size = tuple(small.shape[2:] if size is None else size)

    shape = property(lambda self: torch.Size((*self.small.shape[:2], *self.image_size)))
    device = property(lambda self: self.small.device)
    dtype = property(lambda self: self.small.dtype)
    requires_grad = property(lambda self: self.small.requires_grad)
    new_zeros = property(lambda self: self.small.new_zeros)
    new_tensor = property(lambda self: self.small.new_tensor)

    @property
    def is_resized(self):
        """bool: Whether H and W differ from h and w."""
        return self.image_size != tuple(self.small.shape[2:])

    def full(self, operation=None):
        """Return the resized logits, which the object then holds in the place of the small ones.

        Args:
            operation (str | None): Name of the operation that needs them, for the log.
                Default: None.

        Returns:
            Tensor: ``[B, N, H, W]``.
        """
        if self.is_resized:
            if operation not in (None, *_LOGGED) and not torch.compiler.is_compiling():
                _LOGGED.add(operation)
                print_log(f'{operation} makes logits of the full size', logger='current')
            with _recorded():
                self.small = F.interpolate(self.small, **self._resizing)
        return self.small

    @property
    def _resizing(self):
        return dict(size=self.image_size, mode='bilinear', align_corners=self.align_corners)

    def detach(self):
        """Return the same logits without gradients."""
        return ResizableLogits(self.small.detach(), self.image_size, self.align_corners)

    def float(self):
        """Return the same logits in float32."""
        return ResizableLogits(self.small.float(), self.image_size, self.align_corners)

    def sides(self):
        """Return the maps of rows and of columns from the small to the resized logits.

        Returns:
            tuple[list[Interpolation], list[Interpolation]]: The map of rows and the map of columns,
            float32 or wider; see ``ResizedLogits``.
        """
        like = at_least_float32(self.small[:0])
        return tuple(
            [Interpolation.identity(before, like).resize(after, self.align_corners)]
            for before, after in zip(self.small.shape[2:], self.image_size, strict=True)
        )

    def windows_of(self, index):
        """Return the small logits of an image as a grid of one window; see ``ResizedLogits``."""
        return [[self.small[index]]]

    def interpolate(
        self, size=None, scale_factor=None, mode='nearest', align_corners=None, **options
    ):
        """``F.interpolate``, by another object if it is the first resizing, and bilinear."""
        if self.is_resized or mode != 'bilinear' or size is None or options.get('antialias'):
            full = self.full('interpolate')
            return F.interpolate(full, size, scale_factor, mode, align_corners, **options)
        size = (size, size) if isinstance(size, int) else size
        small = self.small if torch.is_grad_enabled() else self.small.detach()
        return ResizableLogits(small, size, align_corners)

    def cross_entropy(self, target, weight=None, ignore_index=-100, reduction='mean', **options):
        """``F.cross_entropy``, tile by tile for a map of classes.

        Raises:
            ValueError: On the CPU, if a label is neither a class nor ``ignore_index``.
        """
        expected = self.shape[0], *self.image_size
        legacy = options.get('size_average'), options.get('reduce')
        plain = legacy == (None, None) and not options.get('label_smoothing')
        if not plain or target.dtype != torch.long or target.shape != expected:
            options |= dict(ignore_index=ignore_index, reduction=reduction)
            return F.cross_entropy(self.full('cross_entropy'), target, weight, **options)
        arguments = target, weight, ignore_index, True, self.align_corners
        return upsampled_cross_entropy(self.small, *arguments, reduction=reduction, epsilon=0.0)[0]

    def argmax(self, dim=None, keepdim=False):
        """``Tensor.argmax``, tile by tile over the classes."""
        if not self._over_classes(dim):
            return self.full('argmax').argmax(dim, keepdim)
        best = self._best_classes()
        return best if keepdim else best[:, 0]

    @_disable_dynamo
    def _best_classes(self):
        """Return the class with the largest logit at each pixel, ``[B, 1, H, W]``."""
        sides, logits = self.sides(), self.detach()
        images = (ResizedLogits(logits.windows_of(i), *sides) for i in range(len(self)))
        return torch.stack([predicted_labels(image) for image in images])

    def max(self, dim=None, keepdim=False):
        """``Tensor.max``, tile by tile over the classes."""
        if not isinstance(dim, int) or not self._over_classes(dim):
            arguments = () if dim is None else (_full(dim, 'max'),)
            keep = dict(keepdim=keepdim) if isinstance(dim, int) else {}
            return self.full('max').max(*arguments, **keep)
        best = self.argmax(1)
        values = self._values_of(best)
        if keepdim:
            best, values = best[:, None], values[:, None]
        return torch.return_types.max((values, best))

    def topk(self, k, dim=-1, largest=True, sorted=True):
        """``Tensor.topk``, tile by tile for the best class."""
        if k != 1 or not largest or not self._over_classes(dim):
            return self.full('topk').topk(k, dim, largest, sorted)
        return torch.return_types.topk(self.max(1, keepdim=True))

    def softmax(self, dim, *options, dtype=None, _stacklevel=3):
        """``Tensor.softmax``, whose ``gather`` over the classes works tile by tile."""
        dtype = next((each for each in options if isinstance(each, torch.dtype)), dtype)
        if dtype is not None or not self._over_classes(dim):
            return self.full('softmax').softmax(dim, dtype=dtype)
        return _ResizableProbabilities(self if torch.is_grad_enabled() else self.detach())

    def _over_classes(self, dim):
        return dim in (1, -3) and self.shape[1] > 1 and len(self) > 0

    def _values_of(self, classes):
        """Return the resized logit of a class at each pixel, both ``[B, H, W]``."""
        (rows,), (columns,) = self.sides()
        batch, number, height, width = self.small.shape
        image = torch.arange(batch, device=classes.device)[:, None, None]
        first = (image * number + classes) * height * width
        values = 0
        for row, row_weight in zip(rows.index.T, rows.weights.T, strict=True):
            for column, column_weight in zip(columns.index.T, columns.weights.T, strict=True):
                source = first + (row[:, None] * width + column)
                values = values + self.small.take(source) * (row_weight[:, None] * column_weight)
        return values


# Older versions of FSDP look for the leaves of a tree.
register_pytree_node(
    ResizableLogits,
    lambda logits: ([logits.small], (logits.image_size, logits.align_corners)),
    lambda small, options: ResizableLogits(*small, *options),
)


class WindowedLogits(_TensorLike):
    """The mean of the logits of overlapping windows, which stand for a tensor ``[B, N, H, W]``.

    The object keeps the small logits of each window, or, if these need more memory than the mean
    itself, the mean.

    Args:
        window (ResizableLogits): The first window, of which it takes the sizes.
        starts (tuple[Sequence[int], Sequence[int]]): The first row of each row of windows, and the
            first column of each column of windows.
        size (Sequence[int]): H and W.
    """

    FUNCTIONS = ()

    def __init__(self, window, starts, size):
        small = window.small
        self.starts = starts
        self.shape = torch.Size((*small.shape[:2], *size))
        self.coverage = [
            _coverage(begins, side, length, small)
            for begins, side, length in zip(starts, window.shape[2:], size, strict=True)
        ]
        self.windows, self.mean = [], None
        if small.numel() * len(starts[0]) * len(starts[1]) > self.shape.numel():
            like = at_least_float32(small[:0])
            self.mean = like.new_zeros(self.shape)

    def add(self, window, top, left):
        """Add the next window, in the order of rows, and in each row of columns.

        Args:
            window (ResizableLogits): Its logits.
            top (int): Its first row.
            left (int): Its first column.
        """
        if self.mean is None:
            self.windows.append(window)
            return
        rows, columns = (
            slice(start, start + length)
            for start, length in zip((top, left), window.shape[2:], strict=True)
        )
        count = self.coverage[0][rows, None] * self.coverage[1][columns]
        self.mean[:, :, rows, columns].add_(window.full() / count)

    def detach(self):
        """Return the object itself: its windows have no gradients."""
        return self

    def full(self, operation=None):
        """Return the mean, ``[B, N, H, W]``."""
        if self.mean is None:
            sides = self.sides()
            images = [ResizedLogits(self.windows_of(i), *sides) for i in range(len(self))]
            self.mean = torch.stack([image.full() for image in images])
        return self.mean

    def sides(self):
        """Return the maps of each row of windows and of each column; see ``ResizedLogits``."""
        if self.mean is not None:
            return ResizableLogits(self.mean).sides()
        return tuple(
            [side.place(start, length).scale(1 / coverage) for start in begins]
            for (side,), begins, coverage, length in zip(
                self.windows[0].sides(), self.starts, self.coverage, self.shape[2:], strict=True
            )
        )

    def windows_of(self, index):
        """Return the small logits of an image as a grid of windows; see ``ResizedLogits``."""
        if self.mean is not None:
            return [[self.mean[index]]]
        small = [window.small[index] for window in self.windows]
        columns = len(self.starts[1])
        return [small[first : first + columns] for first in range(0, len(small), columns)]


def _coverage(starts, side, length, like):
    """Return how many windows of a side's length cover each position, ``[length]``."""
    coverage = at_least_float32(like[:0]).new_zeros(length)
    for start in starts:
        coverage[start : start + side] += 1
    return coverage


class _ResizableProbabilities(_TensorLike):
    """The softmax of resizable logits over the classes."""

    FUNCTIONS = ('gather',)

    def __init__(self, logits):
        self.logits, self.probabilities = logits, None

    shape = property(lambda self: self.logits.shape)

    def full(self, operation=None):
        """Return the probabilities, ``[B, N, H, W]``, which the object then holds."""
        if self.probabilities is None:
            with _recorded():
                self.probabilities = self.logits.full(operation).softmax(1)
        return self.probabilities

    def gather(self, dim, index, **options):
        """``Tensor.gather``, tile by tile for one class a pixel."""
        expected = (self.shape[0], 1, *self.shape[2:])
        if self.probabilities is not None or dim not in (1, -3) or index.shape != expected:
            return self.full('gather').gather(dim, index, **options)
        check_labels(index, self.shape[1], None)
        logits = self.logits
        losses, _ = pixel_losses(logits.small, index[:, 0], logits.align_corners, None, False)
        return losses.neg().exp()[:, None]

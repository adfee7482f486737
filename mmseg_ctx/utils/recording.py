"""Record what modules show of a forward pass, for pictures of it."""

from contextlib import contextmanager
from contextvars import ContextVar

import torch

# Of each thread its own. It is not on the modules, so they copy, pickle and load as without it.
_RECORDING = ContextVar('recording', default=None)


def show(module, **tensors):
    """Show tensors by name; it does nothing unless they are recorded.

    A class may have it as its method: ``show = show``.

    Args:
        module (nn.Module): The module that computed them.
        **tensors (Tensor): The tensors. A name may be used several times.
    """
    if torch.compiler.is_compiling() or _RECORDING.get() is None:
        return
    modules, shown = _RECORDING.get()
    if module in modules:
        for name, tensor in tensors.items():
            shown.setdefault(name, []).append(tensor.detach())


@contextmanager
def recording(*models):
    """Record what models and the modules inside them show in this thread.

    Args:
        *models (nn.Module): The models. What other modules show is not recorded.

    Yields:
        dict[str, list[Tensor]]: The tensors by name, each name's in the order in which they
        were shown.

    Example:
        >>> class Doubled(torch.nn.Module):
        ...     def forward(self, x):
        ...         show(self, doubled=2 * x)
        >>> model = Doubled()
        >>> with recording(model) as shown:
        ...     model(torch.tensor(3))
        >>> shown
        {'doubled': [tensor(6)]}
    """
    shown = {}
    modules = {module for model in models for module in model.modules()}
    token = _RECORDING.set((modules, shown))
    try:
        yield shown
    finally:
        _RECORDING.reset(token)

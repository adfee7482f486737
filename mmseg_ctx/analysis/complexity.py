"""Parameters and multiply-adds, dynamic convolutions and matrix products included."""

from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from mmseg_ctx.utils.tables import Column, billions, millions

COLUMNS = (
    Column('parameters', 'parameters [M]', millions),
    Column('multiply_adds', 'multiply-adds [G]', billions),
)


class Complexity(NamedTuple):
    """What a forward pass costs.

    Attributes:
        parameters (int): Learned values.
        multiply_adds (int): Multiply-adds of convolutions and matrix products.
    """

    parameters: int
    multiply_adds: int


@torch.no_grad()
def count(module, *inputs, without=()):
    """Count the parameters of a module and the multiply-adds of its forward pass.

    PyTorch's counter sees each operation as it is dispatched, so a convolution whose weights are
    computed from the input counts like any other. Element-wise operations do not count.

    Args:
        module (nn.Module): Runs in evaluation mode; on the meta device nothing is computed.
        *inputs: Arguments of its ``forward``.
        without (Sequence[str]): Names of submodules that run and are not counted, as in
            ``nn.Module.get_submodule``; none lies within another. Default: ``()``.

    Returns:
        Complexity: The two numbers.

    Example:
        >>> with torch.device('meta'):
        ...     count(torch.nn.Conv2d(8, 16, 1), torch.empty(1, 8, 4, 4))
        Complexity(parameters=144, multiply_adds=2048)
    """
    left_out = {name: module.get_submodule(name) for name in without}
    training = module.training
    module.eval()  # a backbone's returns None
    with FlopCounterMode(display=False) as counter:
        module(*inputs)
    module.train(training)
    parameters = sum(map(torch.numel, module.parameters()))
    operations = counter.get_total_flops()
    by_module = counter.get_flop_counts()
    for name, part in left_out.items():
        parameters -= sum(map(torch.numel, part.parameters()))
        operations -= sum(by_module.get(f'{type(module).__name__}.{name}', {}).values())
    return Complexity(parameters, operations // 2)

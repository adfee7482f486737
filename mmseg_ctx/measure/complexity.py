"""Parameters and multiply-adds, dynamic convolutions and matrix products counted."""

from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode


class Complexity(NamedTuple):
    """What a forward pass costs.

    Attributes:
        parameters (int): Learned values.
        multiply_adds (int): Multiply-adds of convolutions and matrix products.
    """

    parameters: int
    multiply_adds: int


@torch.no_grad()
def count(module, *inputs):
    """Count the parameters of a module and the multiply-adds of its forward pass.

    PyTorch's counter sees each operation as it is dispatched, so a convolution whose weights are
    computed from the input counts like any other. Element-wise operations do not count.

    Args:
        module (nn.Module): Put into evaluation mode for the pass; on the meta device nothing is
            computed.
        *inputs: Arguments of its ``forward``.

    Returns:
        Complexity: The two numbers.

    Example:
        >>> with torch.device('meta'):
        ...     count(torch.nn.Conv2d(8, 16, 1), torch.empty(1, 8, 4, 4))
        Complexity(parameters=144, multiply_adds=2048)
    """
    training = module.training
    with FlopCounterMode(display=False) as counter:
        module.eval()(*inputs)
    module.train(training)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return Complexity(parameters, counter.get_total_flops() // 2)

"""Record what modules compute in a forward pass."""

from contextlib import contextmanager
from typing import NamedTuple


class Record(NamedTuple):
    """What a module read and computed in its last call.

    Attributes:
        inputs (tuple): The positional arguments.
        output (object): The result.
    """

    inputs: tuple
    output: object


@contextmanager
def recording(modules):
    """Record the inputs and output of modules' last calls, by forward hooks.

    Args:
        modules (dict[Hashable, nn.Module]): The modules by name, or by any other key.

    Yields:
        dict[Hashable, Record]: The record of each module that ran, by the module's key.
    """
    records = {}

    def hook_of(key):
        def hook(module, inputs, output):
            records[key] = Record(inputs, output)

        return hook

    handles = [module.register_forward_hook(hook_of(key)) for key, module in modules.items()]
    try:
        yield records
    finally:
        for handle in handles:
            handle.remove()

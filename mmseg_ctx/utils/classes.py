"""Classes that are made of others at run time, and whose objects still copy and pickle."""

import functools
import types


@functools.cache
def combined_class(name, *bases):
    """Return the class that inherits from ``bases``, the same one for the same arguments.

    Pickle finds a class by its module and name, and no module has this one. So an object of it is
    pickled, and copied, as its bases and its state, and its class is made again where it is loaded.

    Args:
        name (str): The class's name.
        *bases (type): Importable classes, or classes that were made here, in whose place their own
            bases are taken. Module and docstring are those of the first.

    Returns:
        type: The class.

    Example:
        >>> class Doubled:
        ...     def forward(self, x):
        ...         return 2 * super().forward(x)
        >>> combined_class('DoubledReLU', Doubled, torch.nn.ReLU)()(torch.tensor(3.0))
        tensor(6.)
    """
    flat = tuple(part for base in bases for part in _parts(base))
    attributes = dict(__module__=flat[0].__module__, __doc__=flat[0].__doc__, __reduce_ex__=_reduce)
    return types.new_class(name, flat, exec_body=lambda namespace: namespace.update(attributes))


def _parts(cls):
    return cls.__bases__ if vars(cls).get('__reduce_ex__') is _reduce else (cls,)


def _reduce(self, protocol):
    state = object.__reduce_ex__(self, 2)[2]  # what pickle would keep of any object
    return _new, (type(self).__name__, *type(self).__bases__), state


def _new(name, *bases):
    return object.__new__(combined_class(name, *bases))

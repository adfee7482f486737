"""Make classes from others at run time, so that their objects still copy and pickle."""

import functools
import types


def combined_class(name, *bases):
    """Return a class that inherits from ``bases``; the same name and bases give the same class.

    Pickle looks up a class by its module and name, but no module contains this one. So its objects
    are pickled and copied as their class's name and bases and their state, and loading makes the
    class again.

    Args:
        name (str): Name of the class.
        *bases (type): Importable classes, or classes from this function, which are replaced by
            their own bases. The first one gives module and docstring.

    Returns:
        type: The class.

    Example:
        >>> class Doubled:
        ...     def forward(self, x):
        ...         return 2 * super().forward(x)
        >>> combined_class('DoubledReLU', Doubled, torch.nn.ReLU)()(torch.tensor(3.0))
        tensor(6.)
    """
    return _class(name, *(part for base in bases for part in _parts(base)))


@functools.cache
def _class(name, *bases):
    attributes = dict(
        __module__=bases[0].__module__, __doc__=bases[0].__doc__, __reduce_ex__=_reduce
    )
    return types.new_class(name, bases, exec_body=lambda namespace: namespace.update(attributes))


def _parts(cls):
    return cls.__bases__ if vars(cls).get('__reduce_ex__') is _reduce else (cls,)


def _reduce(self, protocol):
    state = object.__reduce_ex__(self, 2)[2]  # the state that pickle keeps of any object
    return _new, (type(self).__name__, *type(self).__bases__), state


def _new(name, *bases):
    return object.__new__(combined_class(name, *bases))

"""Check arguments against the annotations of a function, as scikit-learn's ``validate_params``.

The signature says what each argument accepts, and :func:`validate_arguments` refuses the rest::

    @validate_arguments
    def __init__(self, delta: Positive = 5.0, sizes: Sequence[PositiveInt] = (1, 3)): ...

These annotations are understood, and their combinations:

- ``int`` (a bool is none), ``float`` (a finite number), ``bool``, ``None``, and any other class;
- ``Literal['a', 'b']``, and unions: ``int | None``;
- ``Sequence[int]``, a list or tuple of one or more entries, and ``tuple[int, int]``, a list or
  tuple of so many;
- ``Annotated[int, Rule(…)]``, a further condition, of which the names below are the common ones.
"""

import functools
import inspect
import types
from collections.abc import Callable, Sequence
from math import inf
from numbers import Integral, Real
from typing import Annotated, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import torch


class Rule(NamedTuple):
    """A condition for values of an ``Annotated`` type.

    Attributes:
        text (str): The condition in words, which follow the name of the type: ``'>= 1'``.
        holds (Callable): Returns whether it holds for a value of the type.
    """

    text: str
    holds: Callable


class ArgumentError(ValueError, TypeError, AssertionError):
    """An argument is not accepted; MMSegmentation itself raises any of these three."""


def at_least(minimum):
    """Return the :class:`Rule` that a number is not below ``minimum``."""
    return Rule(f'>= {minimum}', lambda value: value >= minimum)


PositiveInt = Annotated[int, at_least(1)]
NonNegativeInt = Annotated[int, at_least(0)]
Positive = Annotated[float, Rule('> 0', lambda value: value > 0)]
NonNegative = Annotated[float, at_least(0)]
Ratio = Annotated[float, Rule('from 0 to 1', lambda value: 0 <= value <= 1)]

NAMES = {int: 'an integer', float: 'a finite number', bool: 'True or False', str: 'a string'}


def validate_arguments(function):
    """Make a function or constructor check the arguments it is given by their annotations.

    Defaults, and arguments without an annotation, are not checked. While ``torch.compile`` or
    ``torch.export`` trace the function, nothing is.

    Args:
        function (Callable): The function, with annotations as this module's docstring has them.

    Returns:
        Callable: A function with the same signature. It raises an :class:`ArgumentError` before
        anything else happens.

    Raises:
        TypeError: An annotation is not understood.

    Example:
        >>> @validate_arguments
        ... def scale(factor: Positive): ...
        >>> scale(0)
        Traceback (most recent call last):
        ArgumentError: factor must be a finite number > 0, got 0
    """
    signature = inspect.signature(function)
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    accepted = {
        name: annotation
        for name, annotation in get_type_hints(function, include_extras=True).items()
        if name != 'return' and signature.parameters[name].kind not in several
    }
    for annotation in accepted.values():
        describe(annotation)

    @functools.wraps(function)
    def checked(*args, **kwargs):
        if not torch.compiler.is_compiling():
            try:
                given = signature.bind(*args, **kwargs).arguments
            except TypeError:  # missing or unknown, of which the call itself says more
                given = {}
            for name in filter(given.__contains__, accepted):
                check_argument(name, given[name], accepted[name])
        return function(*args, **kwargs)

    return checked


def check_argument(name, value, annotation):
    """Return ``value`` if an annotation accepts it, or raise an :class:`ArgumentError`."""
    if not _accepts(annotation, value):
        raise ArgumentError(f'{name} must be {describe(annotation)}, got {value!r}')
    return value


def describe(annotation):
    """Say what an annotation accepts, in the words that follow "must be"."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        choices = ', '.join(map(repr, parts))
        return choices if len(parts) == 1 else f'one of {choices}'
    if origin in (Union, types.UnionType):
        return ' or '.join(map(describe, parts))
    if origin is Annotated:
        return ' '.join([describe(parts[0]), *(rule.text for rule in parts[1:])])
    if origin is Sequence:
        return f'a non-empty list or tuple (each entry {describe(parts[0])})'
    if origin is tuple:
        return f'a list or tuple of {len(parts)} ({", ".join(map(describe, parts))})'
    if annotation is type(None):
        return 'None'
    if origin is not None or not isinstance(annotation, type):
        raise TypeError(f'arguments cannot be checked by the annotation {annotation!r}')
    return NAMES.get(annotation, f'a {annotation.__name__}')


def _accepts(annotation, value):
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        plain = isinstance(value, Integral | str) and not isinstance(value, bool)
        return plain and value in parts
    if origin in (Union, types.UnionType):
        return any(_accepts(part, value) for part in parts)
    if origin is Annotated:
        return _accepts(parts[0], value) and all(rule.holds(value) for rule in parts[1:])
    if origin in (Sequence, tuple):
        if not isinstance(value, list | tuple) or not value:
            return False
        parts = parts * len(value) if origin is Sequence else parts
        return len(value) == len(parts) and all(map(_accepts, parts, value))
    if annotation in (int, float):
        kind = Integral if annotation is int else Real
        return isinstance(value, kind) and not isinstance(value, bool) and abs(value) < inf
    return isinstance(value, annotation)

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
from mmcv.cnn import ConvModule
from mmengine.dist import get_world_size
from mmengine.registry import WEIGHT_INITIALIZERS
from mmseg.registry import MODELS, TASK_UTILS
from torch.nn import GroupNorm, SyncBatchNorm
from torch.nn.modules.batchnorm import _BatchNorm


class Rule(NamedTuple):
    """A condition for values of an ``Annotated`` type.

    Attributes:
        text (str): The condition in words, which follow the name of the type: ``'>= 1'``.
        holds (Callable): Returns whether it holds for a value of the type.
    """

    text: str
    holds: Callable


class ArgumentTypeError(TypeError, AssertionError):
    """An argument has the wrong type, which MMSegmentation reports by an AssertionError."""


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
        Callable: A function with the same signature. It raises an ArgumentTypeError or a
        ValueError, as :func:`check_argument` does, before anything else happens.

    Raises:
        TypeError: An annotation is not understood.

    Example:
        >>> @validate_arguments
        ... def scale(factor: Positive): ...
        >>> scale(0)
        Traceback (most recent call last):
        ValueError: factor must be a finite number > 0, got 0
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
            for name, value in _bound(signature, args, kwargs).items():
                if name in accepted:
                    check_argument(name, value, accepted[name])
        return function(*args, **kwargs)

    return checked


def _bound(signature, args, kwargs):
    try:
        return signature.bind(*args, **kwargs).arguments
    except TypeError:  # an argument is missing or unknown, of which the call itself says more
        return {}


def check_argument(name, value, annotation):
    """Return ``value`` if an annotation accepts it.

    Raises:
        ArgumentTypeError: ``value`` has another type.
        ValueError: ``value`` has the type, but is not accepted.
    """
    error = _error(value, annotation)
    if error is not None:
        error = ArgumentTypeError if error is TypeError else error
        raise error(f'{name} must be {describe(annotation)}, got {value!r}')
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


def _error(value, annotation):
    """Return the error that a value deserves: TypeError, ValueError, or None if it is accepted."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return None if isinstance(value, Integral | str) and value in parts else ValueError
    if origin in (Union, types.UnionType):
        return min((_error(value, part) for part in parts), key=_severity)
    if origin is Annotated:
        error = _error(value, parts[0])
        return error or (None if all(rule.holds(value) for rule in parts[1:]) else ValueError)
    if origin in (Sequence, tuple):
        return _error_of_entries(value, origin, parts)
    kind = {int: Integral, float: Real}.get(annotation, annotation)
    if not isinstance(value, kind) or (kind in (Integral, Real) and isinstance(value, bool)):
        return TypeError
    return ValueError if kind is Real and not abs(value) < inf else None


def _error_of_entries(values, origin, parts):
    if not isinstance(values, list | tuple):
        return TypeError
    if origin is Sequence:
        parts = parts * len(values)
    if not values or len(values) != len(parts):
        return ValueError
    errors = [_error(value, part) for value, part in zip(values, parts, strict=True)]
    return max(errors, key=_severity)


def _severity(error):
    return (None, ValueError, TypeError).index(error)


# The checks of single values that not all callers have given up.


def is_int(value):
    """Return whether ``value`` is an integer; a bool is none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_int(name, value, minimum=1):
    """Return ``value`` if it is an integer >= ``minimum``.

    Raise a TypeError or ValueError if not.
    """
    if not is_int(value):
        raise TypeError(f'{name} must be an integer >= {minimum}, got {value!r}')
    if value < minimum:
        raise ValueError(f'{name} must be an integer >= {minimum}, got {value!r}')
    return int(value)


def check_ints(name, values, minimum=1):
    """Return ``values`` as a tuple if it is a non-empty list or tuple of integers >= ``minimum``.

    Raise a TypeError or ValueError if not.
    """
    accepted = f'a non-empty list or tuple of integers >= {minimum}'
    if not isinstance(values, (list, tuple)) or not all(map(is_int, values)):
        raise TypeError(f'{name} must be {accepted}, got {values!r}')
    if not values or min(values) < minimum:
        raise ValueError(f'{name} must be {accepted}, got {values!r}')
    return tuple(map(int, values))


def check_number(name, value, minimum=0.0, exclusive=False):
    """Return ``value`` if it is a finite number >= ``minimum``, or > with ``exclusive``.

    Raise a TypeError or ValueError if not.
    """
    accepted = f'a finite number {">" if exclusive else ">="} {minimum}'
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f'{name} must be {accepted}, got {value!r}')
    above = value > minimum if exclusive else value >= minimum
    if not above or value == float('inf'):
        raise ValueError(f'{name} must be {accepted}, got {value!r}')
    return value


def check_ratio(name, value):
    """Return ``value`` if it is a number from 0 to 1; raise a TypeError or ValueError if not."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f'{name} must be a number from 0 to 1, got {value!r}')
    if not 0 <= value <= 1:
        raise ValueError(f'{name} must be a number from 0 to 1, got {value!r}')
    return value


def check_choice(name, value, choices):
    """Return ``value`` if it is one of the strings ``choices``; raise a ValueError if not."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f'{name} must be one of {", ".join(map(repr, choices))}, got {value!r}')
    return value


def check_bool(name, value):
    """Return ``value`` if it is True or False; raise a TypeError if not."""
    if not isinstance(value, bool):
        raise TypeError(f'{name} must be True or False, got {value!r}')
    return value


def check_inputs(in_channels, in_index=-1, input_transform=None):
    """Check the three arguments that name a decode head's inputs, also against each other.

    Args:
        in_channels (int | Sequence[int]): Channels of each output of the backbone that is read.
        in_index (int | Sequence[int]): Indices of these outputs.
        input_transform (str | None): None for one feature map; ``'resize_concat'`` or
            ``'multiple_select'`` for several.

    Raises:
        TypeError: An integer is given instead of a sequence, or a sequence instead of an integer.
        ValueError: The lengths differ, a width is not positive, or the transform is unknown.
    """
    if input_transform is None:
        check_int('in_channels', in_channels)
        if not is_int(in_index):
            raise TypeError(
                'in_index must be an integer like in_channels, since input_transform is None, '
                f'got {in_index!r}'
            )
        return
    check_choice('input_transform', input_transform, ('resize_concat', 'multiple_select'))
    check_ints('in_channels', in_channels)
    if not isinstance(in_index, (list, tuple)) or not all(map(is_int, in_index)):
        raise TypeError(f'in_index must be a list or tuple of integers, got {in_index!r}')
    if len(in_index) != len(in_channels):
        raise ValueError(
            f'in_index must have as many entries as in_channels={in_channels!r}, got {in_index!r}'
        )


def check_config(name, value, registry):
    """Return ``value`` if it is a dict whose ``type`` an OpenMMLab registry has.

    Raise a TypeError or ValueError if not.
    """
    if not isinstance(value, dict) or 'type' not in value:
        raise TypeError(f"{name} must be a dict with a 'type', got {value!r}")
    kind = value['type']
    if not callable(kind) and not (isinstance(kind, str) and registry.get(kind)):
        raise ValueError(
            f"{name} must have a 'type' that is in the {registry.name} registry, got {kind!r}"
        )
    return value


def check_configs(name, value, registry):
    """Return ``value`` if it is a config, or a non-empty list or tuple of configs.

    See :func:`check_config`.
    """
    if isinstance(value, (list, tuple)) and value:
        for each in value:
            check_config(name, each, registry)
        return value
    return check_config(name, value, registry)


# The registry of each argument of a head that is a config.
REGISTRIES = dict(
    conv_cfg=MODELS,
    norm_cfg=MODELS,
    act_cfg=MODELS,
    loss_decode=MODELS,
    sampler=TASK_UTILS,
    init_cfg=WEIGHT_INITIALIZERS,
)
# The ones that may also be a list of configs.
LISTS = ('loss_decode', 'init_cfg')
# These arguments must not be None. In all others, None is the default or switches something off.
NEVER_NONE = ('align_corners', 'dropout_ratio', 'loss_decode')


def check_head_arguments(**arguments):
    """Check the arguments that any decode head passes on to ``BaseDecodeHead``.

    ``BaseDecodeHead`` itself accepts wrong values, or fails without naming the argument.

    Args:
        **arguments: The arguments in a config. This function ignores those that
            :func:`check_inputs` checks and those that ``BaseDecodeHead`` does not have.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: A value is out of range, or contradicts another.
    """
    given = {name: v for name, v in arguments.items() if v is not None or name in NEVER_NONE}
    for name in REGISTRIES.keys() & given.keys():
        check = check_configs if name in LISTS else check_config
        check(name, given[name], REGISTRIES[name])
    _check_groups(given.get('norm_cfg') or {})
    for name in {'dropout_ratio', 'threshold'} & given.keys():
        check_ratio(name, given[name])
    check_int('channels', given.get('channels', 1))
    check_bool('align_corners', given.get('align_corners', False))
    if not is_int(given.get('ignore_index', 255)):
        raise TypeError(f'ignore_index must be an integer or None, got {given["ignore_index"]!r}')
    if 'num_classes' not in arguments:  # a head may set it itself
        return
    classes = check_int('num_classes', arguments['num_classes'])
    outputs = given.get('out_channels', classes)
    if not is_int(outputs) or outputs not in (1, classes):
        raise ValueError(f'out_channels must be None, 1 or num_classes={classes}, got {outputs!r}')


def _check_groups(norm_cfg):
    if norm_cfg.get('type') not in ('GN', GroupNorm):
        return
    # MMCV asserts this without a message.
    if 'num_groups' not in norm_cfg:
        raise ValueError(f"norm_cfg must have 'num_groups' for group norm, got {norm_cfg!r}")
    check_int("norm_cfg's 'num_groups'", norm_cfg['num_groups'])


def check_decode_head(
    in_channels, channels, num_classes=None, in_index=-1, input_transform=None, **kwargs
):
    """Check the arguments of ``BaseDecodeHead``, including those that name its inputs.

    Args:
        in_channels (int | Sequence[int]): See :func:`check_inputs`.
        channels (int): Width of the classifier's input.
        num_classes (int): Number of classes.
        in_index (int | Sequence[int]): See :func:`check_inputs`.
        input_transform (str | None): See :func:`check_inputs`.
        **kwargs: See :func:`check_head_arguments`.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: A value is out of range, or contradicts another.
    """
    check_inputs(in_channels, in_index, input_transform)
    check_int('channels', channels)
    check_head_arguments(num_classes=num_classes, **kwargs)


def check_one_map(input_transform):
    """Raise a ValueError if ``input_transform`` gives several maps to a head that reads one."""
    if input_transform == 'multiple_select':
        raise ValueError(
            "input_transform must be None or 'resize_concat', since the head reads one map, "
            "got 'multiple_select'"
        )


def check_index(inputs, index, prefix='in'):
    """Check that the backbone has the outputs that a head reads.

    Args:
        inputs (Sequence[Tensor]): The backbone's outputs.
        index (int | Sequence[int]): Indices of the outputs that the head reads.
        prefix (str): Beginning of the argument's name, before ``_index``. Default: ``'in'``.

    Raises:
        ValueError: An index is out of range.
    """
    for each in index if isinstance(index, (list, tuple)) else [index]:
        if not -len(inputs) <= each < len(inputs):
            raise ValueError(
                f"{prefix}_index must be among the backbone's {len(inputs)} outputs, got {index!r}"
            )


def check_features(inputs, index, channels, prefix='in'):
    """Check that the backbone's outputs have the channels that a head was built for.

    Args:
        inputs (Sequence[Tensor]): The backbone's outputs, each ``[B, C, h, w]``.
        index (int | Sequence[int]): Indices of the outputs that the head reads.
        channels (int | Sequence[int]): Channels of these outputs, or their sum.
        prefix (str): Beginning of the arguments' names, before ``_index`` and ``_channels``.
            Default: ``'in'``.

    Raises:
        ValueError: An index is out of range, or an output has another number of channels.
    """
    check_index(inputs, index, prefix)
    several = isinstance(index, (list, tuple))
    found = [inputs[each].size(1) for each in index] if several else inputs[index].size(1)
    if several and is_int(channels):
        found = sum(found)
    if found != (list(channels) if isinstance(channels, (list, tuple)) else channels):
        raise ValueError(
            f'{prefix}_channels must be {found}, the channels of the backbone at '
            f'{prefix}_index={index!r}, got {channels!r}'
        )


def check_norm_inputs(head, *features):
    """Refuse to train on one value per channel, as a batch of one image with 1×1 features has.

    PyTorch's batch norm refuses this, too, but does not say where it happened and what to do.

    Args:
        head (nn.Module): A head, whose ``ConvModule`` normalise maps of the features' sizes.
        *features (Tensor): The features that the head reads, each ``[B, C, h, w]``.

    Raises:
        ValueError: The head trains, and a batch norm in it would have one value per channel.
    """
    if head.training and any([x.size(0) * x.size(2) * x.size(3) == 1 for x in features]):
        for layer in head.modules():
            norm = layer.norm if isinstance(layer, ConvModule) and layer.with_norm else None
            # SyncBatchNorm has a value from each device.
            synced = isinstance(norm, SyncBatchNorm) and get_world_size() > 1
            if isinstance(norm, _BatchNorm) and norm.training and not synced:
                raise ValueError(
                    f'{type(head).__name__} cannot train on a batch of one image with features of '
                    '1×1: batch norm needs two values a channel. Take two images a batch, larger '
                    "images or crops, or norm_cfg=dict(type='GN', num_groups=32)"
                )

"""Checks of constructor arguments; an error is one line: argument, value, what is accepted."""

from numbers import Integral, Real


def is_int(value):
    """Whether ``value`` is an integer; a bool is not one."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_int(name, value, minimum=1):
    """Return ``value`` if it is an integer of at least ``minimum``.

    Raises:
        TypeError: It is not an integer.
        ValueError: It is smaller than ``minimum``.
    """
    if not is_int(value):
        raise TypeError(f'{name} must be an integer >= {minimum}, got {value!r}')
    if value < minimum:
        raise ValueError(f'{name} must be an integer >= {minimum}, got {value!r}')
    return int(value)


def check_ints(name, values, minimum=1):
    """Return ``values``, a non-empty list or tuple of integers >= ``minimum``, as a tuple.

    Raises:
        TypeError: It is not a list or tuple, or an element is not an integer.
        ValueError: It is empty, or an element is smaller than ``minimum``.
    """
    accepted = f'a non-empty list or tuple of integers >= {minimum}'
    if not isinstance(values, (list, tuple)) or not all(map(is_int, values)):
        raise TypeError(f'{name} must be {accepted}, got {values!r}')
    if not values or min(values) < minimum:
        raise ValueError(f'{name} must be {accepted}, got {values!r}')
    return tuple(map(int, values))


def check_number(name, value, minimum=0.0, exclusive=False):
    """Return ``value`` if it is a finite number, at least (``exclusive``: above) ``minimum``.

    Raises:
        TypeError: It is not a number.
        ValueError: It is too small, infinite or not a number in the IEEE sense.
    """
    accepted = f'a finite number {">" if exclusive else ">="} {minimum}'
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f'{name} must be {accepted}, got {value!r}')
    above = value > minimum if exclusive else value >= minimum
    if not above or value == float('inf'):
        raise ValueError(f'{name} must be {accepted}, got {value!r}')
    return value


def check_choice(name, value, choices):
    """Return ``value`` if it is one of ``choices``.

    Raises:
        ValueError: It is something else.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f'{name} must be one of {", ".join(map(repr, choices))}, got {value!r}')
    return value


def check_bool(name, value):
    """Return ``value`` if it is True or False.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(value, bool):
        raise TypeError(f'{name} must be True or False, got {value!r}')
    return value


def check_inputs(in_channels, in_index=-1, input_transform=None):
    """Check the three arguments that say what a decode head reads, which must fit each other.

    Args:
        in_channels (int | Sequence[int]): Channels of the features that are read.
        in_index (int | Sequence[int]): Which of the backbone's outputs they are.
        input_transform (str | None): None for one feature map, else ``'resize_concat'`` or
            ``'multiple_select'``.

    Raises:
        TypeError: One integer where a sequence is needed, or the other way round.
        ValueError: The lengths differ, a width is not positive, or the transform is unknown.
    """
    if input_transform is None:
        check_int('in_channels', in_channels)
        if not is_int(in_index):
            raise TypeError(
                f'in_index must be an integer, as in_channels is, where input_transform is None, '
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


def check_decode_head(in_channels, channels, num_classes, in_index=-1, input_transform=None, **_):
    """Check the arguments of ``BaseDecodeHead`` whose errors would show up late or not name them.

    Args:
        in_channels (int | Sequence[int]): See :func:`check_inputs`.
        channels (int): Width of the classifier's input.
        num_classes (int): Number of classes.
        in_index (int | Sequence[int]): See :func:`check_inputs`.
        input_transform (str | None): See :func:`check_inputs`.

    Raises:
        TypeError: A value of the wrong type.
        ValueError: A value out of range, or values that do not fit each other.
    """
    check_inputs(in_channels, in_index, input_transform)
    check_int('channels', channels)
    check_int('num_classes', num_classes)


def check_one_map(input_transform):
    """Check that a head which reads one feature map is not asked to read several.

    Raises:
        ValueError: ``input_transform`` is ``'multiple_select'``.
    """
    if input_transform == 'multiple_select':
        raise ValueError(
            "input_transform must be None or 'resize_concat', since the head reads one map, "
            "got 'multiple_select'"
        )


def check_features(inputs, index, channels, prefix='in'):
    """Check that the backbone's outputs are those that a head was built for.

    Args:
        inputs (Sequence[Tensor]): The outputs, each ``[B, C, h, w]``.
        index (int | Sequence[int]): Which of them are read.
        channels (int | Sequence[int]): Their channels; one integer for several is their sum.
        prefix (str): The arguments' names begin with it. Default: ``'in'``.

    Raises:
        ValueError: There is no such output, or it has another number of channels.
    """
    several = isinstance(index, (list, tuple))
    for each in index if several else [index]:
        if not -len(inputs) <= each < len(inputs):
            raise ValueError(
                f"{prefix}_index must be among the backbone's {len(inputs)} outputs, got {index!r}"
            )
    found = [inputs[each].size(1) for each in index] if several else inputs[index].size(1)
    if several and is_int(channels):
        found = sum(found)
    if found != (list(channels) if isinstance(channels, (list, tuple)) else channels):
        raise ValueError(
            f"{prefix}_channels must be {found}, those of the backbone's outputs at "
            f'{prefix}_index={index!r}, got {channels!r}'
        )

"""The check of arguments against annotations, compared with what the annotations mean."""

import copy
import inspect
import pickle
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from torch import nn

from mmseg_ctx.utils.arguments import (
    NonNegative,
    NonNegativeInt,
    Positive,
    PositiveInt,
    Ratio,
    at_least,
    check_argument,
    describe,
    validate_arguments,
)


def listed(value):
    return type(value) in (list, tuple)


# What each annotation accepts, written once more as a condition on plain values.
CONDITIONS = {
    int: lambda v: type(v) is int,
    PositiveInt: lambda v: type(v) is int and v > 0,
    NonNegativeInt: lambda v: type(v) is int and v > -1,
    Annotated[int, at_least(3)]: lambda v: type(v) is int and v > 2,
    float: lambda v: type(v) in (int, float) and v - v == 0,
    Positive: lambda v: type(v) in (int, float) and v - v == 0 and v > 0,
    NonNegative: lambda v: type(v) in (int, float) and v - v == 0 and not v < 0,
    Ratio: lambda v: type(v) in (int, float) and v in (0, 0.5, 1),
    bool: lambda v: v is True or v is False,
    Literal['a', 'b']: lambda v: type(v) is str and v in 'ab' and v != '',
    str | None: lambda v: v is None or type(v) is str,
    dict | None: lambda v: v is None or type(v) is dict,
    Sequence[int]: lambda v: listed(v) and len(v) > 0 and all(type(x) is int for x in v),
    tuple[int, int]: lambda v: listed(v) and len(v) == 2 and all(type(x) is int for x in v),
    PositiveInt | Sequence[PositiveInt] | None: lambda v: (
        v is None
        or (all(type(x) is int and x > 0 for x in (v if listed(v) else [v])) and v not in ([], ()))
    ),
}
NUMBERS = st.sampled_from([-1, 0, 1, 2, 3, -0.5, 0.0, 0.5, 1.0, 1.5, float('inf'), float('nan')])
PLAIN = NUMBERS | st.booleans() | st.none() | st.sampled_from(['', 'a', 'b', 'c', '1'])
VALUES = PLAIN | st.lists(PLAIN, max_size=3) | st.lists(PLAIN).map(tuple) | st.just({'type': 'a'})


@pytest.mark.parametrize('annotation', CONDITIONS, ids=describe)
@settings(deadline=None)
@given(value=VALUES)
def test_accepts_what_the_annotation_means(annotation, value):
    if CONDITIONS[annotation](value):
        assert check_argument('x', value, annotation) is value
    else:
        with pytest.raises((TypeError, ValueError)) as error:
            check_argument('x', value, annotation)
        assert str(error.value).startswith('x must be ')
        assert str(error.value).endswith(f', got {value!r}')


class Layer(nn.Module):
    @validate_arguments
    def __init__(
        self, channels: PositiveInt, *, sizes: Sequence[PositiveInt] = (1,), **kwargs: int
    ):
        super().__init__()
        self.linear = nn.Linear(channels, sizes[0])


@validate_arguments
def scaled(x, mode: Literal['twice', 'half'] = 'twice'):
    return 2 * x if mode == 'twice' else x / 2


def test_an_error_names_argument_value_and_what_is_accepted():
    for error in (TypeError, ValueError, AssertionError):
        with pytest.raises(error, match="channels must be an integer >= 1, got '8'"):
            Layer('8')
    with pytest.raises(ValueError, match='channels must be an integer >= 1, got 0'):
        Layer(channels=0)


def test_a_call_is_otherwise_the_same():
    assert list(inspect.signature(Layer).parameters) == ['channels', 'sizes', 'kwargs']
    assert Layer(np.int64(3), other='x').linear.in_features == 3
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'channels'"):
        Layer()
    sizes = Config(dict(sizes=[2, 3])).sizes
    layer = Layer(3, sizes=sizes)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other.linear.weight, layer.linear.weight)


def test_a_checked_function_compiles_as_one_graph():
    compiled = torch.compile(scaled, fullgraph=True, backend='eager')
    assert torch.equal(compiled(torch.ones(2), 'half'), torch.full((2,), 0.5))
    with pytest.raises(ValueError, match=r"one of 'twice', 'half', got 'third'"):
        scaled(torch.ones(2), 'third')

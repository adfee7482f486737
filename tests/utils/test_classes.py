"""Classes that are made at run time."""

import copy
import pickle

from torch import nn

from mmseg_ctx.utils.classes import combined_class


class First:
    """Does nothing."""


class Second:
    """Does nothing either."""


def test_a_class_of_the_same_bases_is_the_same_in_whatever_steps_it_is_made():
    once = combined_class('ReLU', First, nn.ReLU, Second)
    twice = combined_class('ReLU', combined_class('ReLU', First, nn.ReLU), Second)
    assert twice is once
    assert once.__bases__ == (First, nn.ReLU, Second)
    module = twice(inplace=True)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert type(other) is once
        assert other.inplace

"""What modules show, and when nothing of it is kept."""

import copy
import pickle

import pytest
import torch
from torch import nn

from mmseg_ctx.utils.recording import recording, show


class Shower(nn.Module):
    show = show

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, x):
        x = self.linear(x)
        self.show(hidden=x)
        show(self, last=x.sum())
        return x.relu()


@pytest.fixture
def model():
    return nn.Sequential(Shower(), Shower())


def test_tensors_are_recorded_in_order(model):
    x = torch.rand(3, 2)
    with recording(model) as shown, recording(model[1]) as inner:
        out = model(x)
    assert not shown  # by the inner recording
    assert list(inner) == ['hidden', 'last']
    assert torch.equal(inner['hidden'][0].relu(), out)
    assert not inner['hidden'][0].requires_grad
    with recording(model) as shown:
        model(x)
    model(x)
    assert [len(tensors) for tensors in shown.values()] == [2, 2]
    torch.testing.assert_close(shown['hidden'][0], model[0].linear(x))


def test_a_recording_leaves_no_trace(model):
    names = list(model.state_dict())
    with recording(model):
        model(torch.rand(3, 2))
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert list(other.state_dict()) == names
            with recording(other) as shown:
                model(torch.rand(3, 2))
            assert not shown  # of another model


def test_compiled_and_exported_models_show_nothing(model):
    x = torch.rand(3, 2)
    with recording(model) as shown:
        compiled = torch.compile(model, fullgraph=True, backend='eager')
        torch.testing.assert_close(compiled(x), model(x))
        assert [len(tensors) for tensors in shown.values()] == [2, 2]  # of the second
        program = torch.export.export(model, (x,))
        torch.testing.assert_close(program.module()(x), model(x))
        assert [len(tensors) for tensors in shown.values()] == [4, 4]

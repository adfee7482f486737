from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from mmseg_ctx.checkpoints.loading import load_checkpoint
from tests.checkpoints.hostile.seeds import Calls


@pytest.fixture
def save(tmp_path):
    def save(content):
        torch.save(content, tmp_path / 'a.pth')
        return tmp_path / 'a.pth'

    return save


def test_state_dict_and_meta(save):
    weight = nn.Parameter(torch.ones(2))
    meta = {'dataset_meta': {'classes': ('a', 'b')}}
    state_dict, read = load_checkpoint(save({'state_dict': {'a.weight': weight}, 'meta': meta}))
    assert read == meta
    assert type(state_dict['a.weight']) is torch.Tensor
    assert not state_dict['a.weight'].requires_grad
    state_dict, read = load_checkpoint(save(OrderedDict({'module.a.weight': weight})))
    assert list(state_dict) == ['a.weight']
    assert read == {}


@pytest.mark.parametrize('name', ['get', 'items', 'keys', 'values', '__iter__'])
def test_methods_in_a_file_are_not_called(name, save):
    hostile = Calls(OrderedDict, [('a', torch.ones(2))], state={name: bytearray})
    assert load_checkpoint(save(hostile))[0]['a'].tolist() == [1, 1]
    state_dict, meta = load_checkpoint(save({'state_dict': hostile, 'meta': hostile}))
    assert state_dict['a'].tolist() == meta['a'].tolist() == [1, 1]


def test_hooks_in_a_file_are_left_behind(save):
    storage = torch.ones(2)._typed_storage()
    hooks = OrderedDict({0: OrderedDict})
    hostile = Calls(torch._utils._rebuild_tensor_v2, storage, 0, (2,), (1,), False, hooks)
    state_dict, _ = load_checkpoint(save({'a': hostile}))
    assert state_dict['a'].tolist() == [1, 1]
    assert state_dict['a']._backward_hooks is None


@pytest.mark.parametrize(
    'tensor',
    [
        torch.ones(2, 2).to_sparse(),
        torch.ones(2, 2).to_sparse_csr(),
        torch.empty(2**40, device='meta'),
        torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.quint8),
        np.ones(2),
        [1.0],
    ],
    ids=['sparse', 'compressed', 'meta', 'quantized', 'array', 'list'],
)
def test_takes_dense_tensors_alone(tensor, save):
    path = save({'a': tensor})
    with pytest.raises(ValueError, match=f"{path} is no checkpoint: 'a' in its state dict is no "):
        load_checkpoint(path)


def test_names_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match='missing'):
        load_checkpoint(tmp_path / 'missing.pth')
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        load_checkpoint(tmp_path)

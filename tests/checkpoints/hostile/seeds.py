"""Valid files, which the mutations start from: what MMEngine, PyTorch and Paddle write."""

import io
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import torch
from mmengine.logging import MessageHub
from torch import nn

ARRAYS = {
    'head.cls_head.weight': np.arange(24, dtype='float32').reshape(2, 3, 4, 1),
    'head.cls_head.bias': np.float16([0.5, -2]),
    'head.transposed': np.arange(6.0).reshape(2, 3).T,
    'head.mask': np.array([True, False]),
    'head.steps': np.array(7),
    'head.large': np.arange(300.0),
    'head.empty': np.zeros((0, 3)),
}


class Calls:
    """Pickles as a call of ``function`` with ``arguments``, and then ``state``."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = function, arguments, state

    def __reduce__(self):
        return self.reduced


def checkpoint():
    """Return what MMEngine's runner saves: weights, optimizer and message hub."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.zeros(2, 3, 4, 4)).sum().backward()
    optimizer.step()
    hub = MessageHub('hostile')
    for loss in (3.0, 2.0, 1.0):
        hub.update_scalar('train/loss', loss)
    hub.update_info('best_score', np.float64(0.5))
    hub.update_info('palette', np.arange(6, dtype='uint8').reshape(2, 3))
    return {
        'meta': {'epoch': 0, 'iter': 3, 'CLASSES': ('a', 'b'), 'PALETTE': [[1, 2, 3], [4, 5, 6]]},
        'state_dict': OrderedDict(
            (f'decode_head.proj.{name}', tensor) for name, tensor in model.state_dict().items()
        ),
        'message_hub': hub.state_dict(),
        'optimizer': optimizer.state_dict(),
        'param_schedulers': [{'base_values': [0.1], 'last_step': 3, 'verbose': False}],
    }


def zip_pickles():
    """Return the pickles inside zip checkpoints, by NumPy's names of before and since version 2."""
    file = io.BytesIO()
    torch.save(checkpoint(), file)
    with zipfile.ZipFile(file) as archive:
        name = next(name for name in archive.namelist() if name.endswith('data.pkl'))
        data = archive.read(name)
    one, two = b'cnumpy.core.multiarray\n', b'cnumpy._core.multiarray\n'
    return [data.replace(two, one), data.replace(one, two)], file.getvalue()


def with_pickle(container, data):
    """Return a zip checkpoint with another pickle in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(container)) as source, zipfile.ZipFile(file, 'w') as target:
        for name in source.namelist():
            target.writestr(name, data if name.endswith('data.pkl') else source.read(name))
    return file.getvalue()


def legacy():
    """Return a checkpoint in the format that PyTorch wrote before 1.6."""
    file = io.BytesIO()
    torch.save(checkpoint(), file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def paddle_pickles():
    """Return what Paddle saves, in each protocol and by NumPy's names of either version."""
    names = {name: f'conv2d_{i}.w_0' for i, name in enumerate(ARRAYS)}
    content = OrderedDict(ARRAYS) | {'StructuredToParameterName@@': names}
    pickles = [pickle.dumps(content, protocol) for protocol in (2, 3, 4)]
    one, two = b'cnumpy.core.multiarray\n', b'cnumpy._core.multiarray\n'
    return [*pickles, pickles[0].replace(two, one), pickles[0].replace(one, two)]


def ctnet_arrays():
    """Return some arrays by the names that CTNet's authors have."""
    scale = np.ones((4, 1), 'float32')
    names = ('_mean', '_variance', 'weight', 'bias')
    norm = {f'head.ccm.fc1.0._batch_norm.{name}': np.ones(2, 'float32') for name in names}
    layer = {'weight': np.ones((2, 3, 1, 1), 'float32'), 'bias': np.ones(2, 'float32')}
    conv = {f'head.ccm.fc1.0._conv.{name}': array for name, array in layer.items()}
    return {'head.ccm.ccm_layer.line.weight': scale, **norm, **conv}

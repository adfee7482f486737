"""Build models from configs, and read what differs between models or MMSegmentation's versions."""

import torch
from mmengine.model import is_model_wrapper
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from torch import nn
from torch.overrides import TorchFunctionMode


def build(config, device='meta'):
    """Build a model or head of MMSegmentation's registry.

    Args:
        config (dict): Config of the model or head.
        device (str | torch.device): Device of the weights; on the meta device they take no memory.
            Default: ``'meta'``.

    Returns:
        nn.Module: The model or head with random weights.
    """
    scope = DefaultScope.overwrite_default_scope('mmseg')
    with scope, torch.device(device), _ValuesOnCpu():
        return MODELS.build(config)


class _ValuesOnCpu(TorchFunctionMode):
    """Keeps ``linspace`` on the CPU, because transformers read their stochastic depth from it."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.linspace:
            kwargs.setdefault('device', 'cpu')
        return func(*args, **kwargs)


def unwrapped(model):
    """Return a runner's model without the wrapper that trains it in several processes."""
    return model.module if is_model_wrapper(model) else model


def last_head(segmentor):
    """Return a segmentor's decode head; in a cascade, the last one."""
    heads = segmentor.decode_head
    return heads[-1] if isinstance(heads, nn.ModuleList) else heads


def swaps_channels(preprocessor):
    """Return whether a ``SegDataPreProcessor`` swaps BGR and RGB.

    MMSegmentation has an attribute of its own for this; the maintained fork uses MMEngine's.
    """
    own = getattr(preprocessor, '_channel_conversion', False)
    return getattr(preprocessor, 'channel_conversion', own)

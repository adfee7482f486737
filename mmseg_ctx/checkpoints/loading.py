"""Reading a checkpoint without running what is in it."""

import re
import warnings

import numpy as np
import torch

from mmseg_ctx.checkpoints.stand_ins import shown
from mmseg_ctx.utils.arguments import is_int

# What DataParallel puts before every name.
PARALLEL_PREFIX = 'module.'


def load_checkpoint(path):
    """Return a PyTorch checkpoint, read with ``weights_only=True``.

    Args:
        path (str | Path): The file.

    Returns:
        tuple[dict[str, Tensor], dict]: Its state dict, without the ``module.`` of a parallel
        model, and its ``meta``, which may be empty.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no checkpoint of dense tensors, or asks for anything that is not known as
            safe.
    """
    open(path, 'rb').close()  # an error of a file that cannot be read names it
    try:
        with warnings.catch_warnings():
            # What PyTorch warns of first, such as another protocol, the error says.
            warnings.simplefilter('ignore')
            checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # A damaged file may raise anything.
        raise ValueError(
            f'{path} is no checkpoint that is safe to load: {_reason(str(error))}'
        ) from error
    content = _items(checkpoint)
    state_dict = _items(content.get('state_dict', checkpoint))
    if not state_dict:
        raise ValueError(f'{path} is no checkpoint: it has no state dict')
    for name, value in state_dict.items():
        if type(name) is not str or not _is_dense(value):
            raise ValueError(
                f'{path} is no checkpoint: {shown(name)} in its state dict is no tensor'
            )
    prefix = PARALLEL_PREFIX if all(name.startswith(PARALLEL_PREFIX) for name in state_dict) else ''
    # Without what a file can give a tensor beside its values, such as hooks.
    state_dict = {name.removeprefix(prefix): value.detach() for name, value in state_dict.items()}
    return state_dict, _items(content.get('meta')) if 'state_dict' in content else {}


def _reason(message):
    """Return what PyTorch's unpickler or a stand-in says, without PyTorch's advice around it."""
    if name := re.search(r'GLOBAL (\S+)', message):
        return f'it asks for {name[1]}'
    stand_in = re.search(r'WeightsUnpickler error:\s+(it .*)', message)
    return stand_in[1] if stand_in else 'it is damaged or something else'


def _items(container):
    """Return what a dictionary holds, and nothing for anything else.

    An OrderedDict from a file can have attributes in the place of its own methods.
    """
    return dict(dict.items(container)) if isinstance(container, dict) else {}


def _is_dense(value):
    """Whether a value is a tensor with a memory of its own, whose size PyTorch has checked."""
    return (
        isinstance(value, torch.Tensor)
        and value.layout is torch.strided
        and not value.is_quantized
        and not value.is_nested
        and not value.is_meta
    )


def class_names(value):
    """Return a value from a file if it is a list or tuple of names, and None for anything else."""
    is_list = isinstance(value, (list, tuple)) and len(value) > 0
    return value if is_list and all(isinstance(name, str) for name in value) else None


def class_colours(value):
    """Return a value from a file if it is a list or tuple of colours, and None for anything else.

    An array becomes a list: MMSegmentation 0.x draws the colours of classes that have none.
    """
    value = value.tolist() if isinstance(value, np.ndarray) else value
    is_list = isinstance(value, (list, tuple)) and len(value) > 0
    return value if is_list and all(map(_is_colour, value)) else None


def _is_colour(value):
    return (
        isinstance(value, (list, tuple))
        and len(value) == 3
        and all(is_int(channel) and 0 <= channel <= 255 for channel in value)
    )

"""Read a checkpoint without running code from it."""

import json
import re
import warnings

import torch
from mmengine.runner import CheckpointLoader

from mmseg_ctx.checkpoints.stand_ins import PickledArray, only_stand_ins, shown
from mmseg_ctx.utils.errors import needs_extra, value_errors

PARALLEL_PREFIX = 'module.'  # DataParallel puts this before every name
DATASET_META = ('classes', 'palette')  # what MMSegmentation knows of the classes


def load_checkpoint(path):
    """Read a checkpoint of PyTorch, with ``weights_only=True``, or of safetensors.

    Args:
        path (str | Path): The file; safetensors if its suffix is ``.safetensors``.

    Returns:
        tuple[dict[str, Tensor], dict]: The state dict, without the ``module.`` of a parallel
        model, and ``meta``, which may be empty.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is no checkpoint of dense tensors, or asks for a function or class
            other than those of :mod:`mmseg_ctx.checkpoints.stand_ins`.
    """
    open(path, 'rb').close()  # raises an OSError with the file's name
    if str(path).endswith('.safetensors'):
        checkpoint = load_from_safetensors(str(path))
        return checkpoint['state_dict'], checkpoint['meta']
    try:
        with only_stand_ins(), warnings.catch_warnings():
            # PyTorch's warnings, for example about the protocol, repeat what the error says.
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
    # Drops what a file can attach to a tensor, such as hooks.
    state_dict = {name.removeprefix(prefix): value.detach() for name, value in state_dict.items()}
    return state_dict, _items(content.get('meta')) if 'state_dict' in content else {}


@CheckpointLoader.register_scheme(prefixes=r'.*\.safetensors$')
def load_from_safetensors(filename, map_location=None):
    """Read weights that :func:`mmseg_ctx.checkpoints.save_model` wrote, also for MMEngine.

    Args:
        filename (str): The file.
        map_location (str | torch.device | None): Device of the weights; None for the CPU.
            Default: None.

    Returns:
        dict: ``state_dict`` and ``meta``, in which ``dataset_meta`` has the classes' names and
        colours.

    Raises:
        ImportError: The package safetensors is not installed.
        ValueError: The file is no safetensors file.
    """
    with needs_extra('export'):
        from safetensors import safe_open
    with (
        value_errors(f'{filename} is no file of safetensors'),
        safe_open(filename, 'pt', str(map_location or 'cpu')) as file,
    ):
        state_dict = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        known = (file.metadata() or {}).items()
        dataset_meta = {key: json.loads(text) for key, text in known if key in DATASET_META}
    return {'state_dict': state_dict, 'meta': {'dataset_meta': dataset_meta}}


def _reason(message):
    """Return the reason in the message of PyTorch's unpickler, without its advice."""
    if name := re.search(r'GLOBAL (\S+)', message):
        return f'it asks for {name[1]}'
    stand_in = re.search(r'WeightsUnpickler error:\s+(it .*)', message)
    return stand_in[1] if stand_in else 'it is damaged or something else'


def _items(container):
    """Return a dictionary's items by none of its own methods, which a file may replace."""
    return dict(dict.items(container)) if isinstance(container, dict) else {}


def _is_dense(value):
    """Return whether a value is a dense tensor, the size of whose memory PyTorch has checked."""
    plain = isinstance(value, torch.Tensor) and value.layout is torch.strided
    return plain and not (value.is_quantized or value.is_nested or value.is_meta)


def known_classes(names, colours):
    """Return what values from a file say of the classes: ``classes``, ``palette``, both or neither.

    An array becomes a list: MMSegmentation 0.x draws the colours of classes that have none.
    """
    if isinstance(colours, PickledArray):
        colours = colours.array.tolist()
    known = {}
    if _is_list(names, str):
        known['classes'] = names
    if _is_list(colours, (list, tuple)) and {*map(len, colours)} == {3}:
        channels = [channel for colour in colours for channel in colour]
        if _is_list(channels, int) and 0 <= min(channels) <= max(channels) <= 255:
            known['palette'] = colours
    return known


def _is_list(value, kind):
    is_list = isinstance(value, (list, tuple)) and len(value) > 0
    return is_list and all(isinstance(each, kind) for each in value)

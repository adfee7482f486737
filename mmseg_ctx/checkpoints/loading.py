"""Reading a checkpoint without running what is in it."""

import re

import torch


def load_checkpoint(path):
    """Return a PyTorch checkpoint, read with ``weights_only=True``.

    Args:
        path (str | Path): The file.

    Returns:
        tuple[dict[str, Tensor], dict]: Its state dict, and its ``meta``, which may be empty.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no checkpoint, or asks for anything that is not known as safe.
    """
    try:
        checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    except OSError:
        raise
    except Exception as error:  # A damaged file may raise anything.
        refused = re.search(r'GLOBAL (\S+)', str(error))
        reason = f'it asks for {refused[1]}' if refused else 'it is damaged or something else'
        raise ValueError(f'{path} is no checkpoint that is safe to load: {reason}') from error
    state_dict = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, dict) else None
    if not isinstance(state_dict, dict) or not state_dict:
        raise ValueError(f'{path} is no checkpoint: it has no state dict')
    for name, value in state_dict.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise ValueError(f'{path} is no checkpoint: {name!r} in its state dict is no tensor')
    meta = checkpoint.get('meta', {}) if state_dict is not checkpoint else {}
    return state_dict, meta if isinstance(meta, dict) else {}

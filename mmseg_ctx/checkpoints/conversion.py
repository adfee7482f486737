"""What the converters share: the converted weights, their comparison with a model, the file."""

import re
from typing import NamedTuple

import torch

from mmseg_ctx.utils.configs import read_config
from mmseg_ctx.utils.errors import first_names, value_errors
from mmseg_ctx.utils.models import build

# What the context-aware classifier adds to the head inside it.
ADDED = re.compile(r'decode_head\.(\d+\.)?(estimate|oracle)_projector\.')

# The parts, by our names and the CTNet authors', without which a model segments otherwise.
NEEDED = re.compile(r'(backbone|neck|decode_head|head(?!\.aux_head))\.')


class Conversion(NamedTuple):
    """Weights under our names, and how they came there.

    Attributes:
        state_dict (dict[str, Tensor]): The converted weights.
        targets (dict[str, str]): For each name that was read where its values are now.
        left_over (list[str]): Names that were read and have no place in the model.
        missing (list[str]): Names of the model's that nothing was read for.
    """

    state_dict: dict
    targets: dict
    left_over: list
    missing: list

    @property
    def renamed(self):
        """dict[str, str]: The entries of ``targets`` whose name changed."""
        return {source: name for source, name in self.targets.items() if source != name}

    def report(self):
        """Return lines of text: each name that was renamed, is missing or was left over.

        A file can name anything; what cannot be printed is escaped.
        """
        lines = [f'{source} -> {name}' for source, name in self.renamed.items()]
        lines.append(f'renamed: {len(self.renamed)} of {len(self.targets)} names')
        lines.append(f'missing: {", ".join(self.missing) or "none"}')
        lines.append(f'left over: {", ".join(self.left_over) or "none"}')
        return [line if line.isprintable() else repr(line)[1:-1] for line in lines]


def build_model(config_file):
    """Return the model of a config file, without memory for its weights.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no config, or its ``model`` cannot be built.
    """
    config = read_config(config_file, 'model')
    with value_errors(f'the model of {config_file} cannot be built'):
        return build(config.model)


def restrict_to_model(conversion, model):
    """Keep what a model has a place for, and list what it needs beside.

    Args:
        conversion (Conversion): The weights.
        model (nn.Module): Any device.

    Returns:
        Conversion: What the model has no place for is now among ``left_over``, and ``missing`` has
        what it needs beside. Counters of batch norm are not needed.

    Raises:
        ValueError: A shape differs.
    """
    expected = model.state_dict()
    state_dict = {name: value for name, value in conversion.state_dict.items() if name in expected}
    for name, value in state_dict.items():
        if value.shape != expected[name].shape:
            raise ValueError(
                f'{name} has the shape {tuple(value.shape)} in the weights and '
                f'{tuple(expected[name].shape)} in the model'
            )
    targets = {source: name for source, name in conversion.targets.items() if name in expected}
    return Conversion(
        state_dict,
        targets,
        [*conversion.left_over, *(s for s in conversion.targets if s not in targets)],
        [
            name
            for name in expected
            if name not in state_dict and not name.endswith('.num_batches_tracked')
        ],
    )


def refuse_partial(conversion, source):
    """Raise a ValueError if the converted model would segment otherwise than the one it is from.

    That is so if a weight is missing, or one of the backbone, the neck or the decode head has no
    place. Projectors of the context-aware classifier may be missing, all of them, and the auxiliary
    head may be left over.

    Args:
        conversion (Conversion): The weights.
        source (str | Path): The file that they are from, for the message.
    """
    has_projectors = any(map(ADDED.match, conversion.state_dict))
    missing = [name for name in conversion.missing if has_projectors or not ADDED.match(name)]
    left_over = [name for name in conversion.left_over if NEEDED.match(name)]
    faults = {'it lacks': missing, 'the model has no place for': left_over}
    parts = [f'{fault} {first_names(names)}' for fault, names in faults.items() if names]
    if parts:
        raise ValueError(
            f'{source} does not fit the model: {"; ".join(parts)} (--partial converts what fits)'
        )


def save(conversion, path, meta):
    """Write a checkpoint as MMEngine loads it.

    Args:
        conversion (Conversion): The weights.
        path (str | Path): The file.
        meta (dict): What is known beside; ``dataset_meta`` has the names of the classes.
    """
    torch.save({'state_dict': conversion.state_dict, 'meta': meta}, path)

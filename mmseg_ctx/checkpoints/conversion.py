"""What the converters share: the converted weights, their comparison with a model, the file."""

from typing import NamedTuple

import torch

from mmseg_ctx.utils.configs import read_config
from mmseg_ctx.utils.errors import value_errors
from mmseg_ctx.utils.models import build


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
        """Return lines of text: each name that was renamed, is missing or was left over."""
        lines = [f'{source} -> {name}' for source, name in self.renamed.items()]
        lines.append(f'renamed: {len(self.renamed)} of {len(self.targets)} names')
        lines.append(f'missing: {", ".join(self.missing) or "none"}')
        lines.append(f'left over: {", ".join(self.left_over) or "none"}')
        return lines


def build_model(config_file):
    """Return the model of a config file, without memory for its weights.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no config, or its ``model`` cannot be built.
    """
    config = read_config(config_file, 'model')
    with value_errors(f'the model of {config_file} cannot be built'):
        return build(config.model)


def fit(conversion, model):
    """Compare a conversion with the model that it is meant for.

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


def save(conversion, path, meta):
    """Write a checkpoint as MMEngine loads it.

    Args:
        conversion (Conversion): The weights.
        path (str | Path): The file.
        meta (dict): What is known beside; ``dataset_meta`` has the names of the classes.
    """
    torch.save({'state_dict': conversion.state_dict, 'meta': meta}, path)

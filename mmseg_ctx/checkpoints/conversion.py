"""Common parts of the converters: converted weights, their comparison with a model, the file."""

import io
import re
from typing import NamedTuple

import torch

from mmseg_ctx.utils.configs import read_config
from mmseg_ctx.utils.errors import first_names, value_errors
from mmseg_ctx.utils.files import writing
from mmseg_ctx.utils.models import build

# Weights that the context-aware classifier adds to the head inside it.
ADDED = re.compile(r'decode_head\.(\d+\.)?(estimate|oracle)_projector\.')

# Weights that change predictions, by our names and by the names of CTNet's authors.
NEEDED = re.compile(r'(backbone|neck|decode_head|head(?!\.aux_head))\.')


class Conversion(NamedTuple):
    """Weights under our names, and the names that they had before.

    Attributes:
        state_dict (dict[str, Tensor]): The converted weights.
        targets (dict[str, str]): Our name by the name in the file.
        left_over (list[str]): Names in the file that the model does not have.
        missing (list[str]): Names of the model that the file does not have.
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
        """Return lines of text with each name that was renamed, missing or left over.

        Unprintable characters are escaped, since a file can contain any name.
        """
        lines = [f'{source} -> {name}' for source, name in self.renamed.items()]
        lines.append(f'renamed: {len(self.renamed)} of {len(self.targets)} names')
        lines.append(f'missing: {", ".join(self.missing) or "none"}')
        lines.append(f'left over: {", ".join(self.left_over) or "none"}')
        return [line if line.isprintable() else repr(line)[1:-1] for line in lines]


def build_model(config_file):
    """Return the model of a config file on the meta device, without memory for its weights.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is no config, or its ``model`` cannot be built.
    """
    config = read_config(config_file, 'model')
    with value_errors(f'the model of {config_file} cannot be built'):
        return build(config.model)


def restrict_to_model(conversion, model):
    """Compare weights with a model, and keep the weights that the model has.

    Args:
        conversion (Conversion): The weights.
        model (nn.Module): The model, on any device.

    Returns:
        Conversion: ``left_over`` also has the names that the model does not have. ``missing`` has
        the model's other names, without batch norm's counters.

    Raises:
        ValueError: A weight has another shape in the model.
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
    left_over = [*conversion.left_over, *(s for s in conversion.targets if s not in targets)]
    missing = [name for name in expected if name not in state_dict]
    missing = [name for name in missing if not name.endswith('.num_batches_tracked')]
    return Conversion(state_dict, targets, left_over, missing)


def _refuse_partial(conversion, source):
    """Raise a ValueError if the converted model would predict something else than the original.

    This is the case if a weight is missing, or if a weight of the backbone, the neck or the decode
    head is left over. A model of CAC may lack all its projectors, and weights of the auxiliary head
    may be left over.
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


def convert(read, source, destination, config=None, force=False, partial=False):
    """Read an authors' file, and write a checkpoint in MMEngine's format.

    Args:
        read (Callable): Returns, for ``source`` and ``config``, the weights as a
            :class:`Conversion` and the checkpoint's ``meta``.
        source (str | Path): The authors' file.
        destination (str | Path): The checkpoint to write.
        config (str | Path | None): Given to ``read``. Default: None.
        force (bool): As in ``convert_cac``. Default: False.
        partial (bool): As in ``convert_cac``. Default: False.

    Returns:
        Conversion: As in ``convert_cac``, with its errors.
    """
    with writing(destination, force, filter(None, (source, config))) as temporary:
        conversion, meta = read(source, config)
        if not partial:
            _refuse_partial(conversion, source)
        content = io.BytesIO()  # PyTorch's own writer reports a full disk as a RuntimeError
        torch.save({'state_dict': conversion.state_dict, 'meta': meta}, content)
        temporary.write_bytes(content.getbuffer())
    return conversion

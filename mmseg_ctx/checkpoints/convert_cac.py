"""Convert checkpoints of the authors of CAC.

Their code, https://github.com/tianzhuotao/Context-Aware-Classifier, is a fork of MMSegmentation
0.30. Its models (FCN, DeepLabV3+, UPerNet and OCRNet on ResNet, MobileNet, HRNet and Swin) still
have the same parameter names in 1.x. Only the names of the two projectors differ.
"""

import re

from mmseg_ctx.checkpoints.conversion import (
    ADDED,
    Conversion,
    build_model,
    convert,
    restrict_to_model,
)
from mmseg_ctx.checkpoints.loading import known_classes, load_checkpoint

# Their names of the projectors, and ours. Heads of a cascade have a number: decode_head.1.
PROJECTORS = {'proj': 'estimate_projector', 'apd_proj': 'oracle_projector'}
PROJECTOR = re.compile(r'^(decode_head\.(?:\d+\.)?)(proj|apd_proj)\.')

# A projector is Linear without bias, ReLU, Linear.
PROJECTOR_PARAMETERS = ('0.weight', '2.weight', '2.bias')

# Prefixes of a segmentor's parts with weights.
PARTS = ('backbone.', 'neck.', 'decode_head.', 'auxiliary_head.')


def convert_cac(source, destination, config=None, force=False, partial=False):
    """Convert a checkpoint of the authors to one that MMEngine loads.

    Args:
        source (str | Path): The authors' file.
        destination (str | Path): The checkpoint to write.
        config (str | Path | None): Config of the model that the weights are for; without it only
            the projectors are checked. Default: None.
        force (bool): Whether to replace an existing ``destination``. Default: False.
        partial (bool): Whether to convert what fits where other weights are missing or left over.
            Default: False.

    Returns:
        Conversion: The written weights, and the names that were renamed, missing or left over.

    Raises:
        OSError: A file cannot be read or written.
        ValueError: ``source`` is no such file, or does not fit the model.
    """
    return convert(_read, source, destination, config, force, partial)


def _read(source, config):
    state_dict, meta = load_checkpoint(source)
    conversion = convert_state_dict(state_dict)
    if config is not None:
        conversion = restrict_to_model(conversion, build_model(config))
    # MMSegmentation 0.x keeps these in capitals.
    known = known_classes(meta.get('CLASSES'), meta.get('PALETTE'))
    return conversion, {'dataset_meta': known} if known else {}


def convert_state_dict(state_dict):
    """Rename the weights of the authors' model.

    Args:
        state_dict (dict[str, Tensor]): Weights by the authors' names.

    Returns:
        Conversion: ``left_over`` has the weights of no part of a segmentor, ``missing`` the absent
        weights of the projectors.

    Raises:
        ValueError: There are no projectors under the authors' names, or some under ours.
    """
    if ours := [name for name in state_dict if ADDED.match(name)]:
        raise ValueError(f'the checkpoint has our names already, such as {ours[0]}')
    left_over = [name for name in state_dict if not name.startswith(PARTS)]
    targets = {
        name: PROJECTOR.sub(lambda m: f'{m[1]}{PROJECTORS[m[2]]}.', name)
        for name in state_dict
        if name.startswith(PARTS)
    }
    converted = {target: state_dict[name] for name, target in targets.items()}
    prefixes = {match[1] for match in map(PROJECTOR.match, state_dict) if match}
    if not prefixes:
        raise ValueError(
            'the checkpoint is not of a context-aware classifier: it has no decode_head.proj and '
            f'decode_head.apd_proj, but {", ".join(list(state_dict)[:3])}, …'
        )
    needed = [
        f'{prefix}{projector}.{parameter}'
        for prefix in sorted(prefixes)
        for projector in PROJECTORS.values()
        for parameter in PROJECTOR_PARAMETERS
    ]
    missing = [name for name in needed if name not in converted]
    return Conversion(converted, targets, left_over, missing)

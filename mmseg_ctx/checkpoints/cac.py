"""Turn a checkpoint of the context-aware classifier's authors into one of ours.

Their code, https://github.com/tianzhuotao/Context-Aware-Classifier, is a fork of MMSegmentation
0.30, whose parts still have the same names in 1.x: FCN, DeepLabV3+, UPerNet and OCRNet on ResNet,
MobileNet, HRNet and Swin. What differs is the two projectors' names.
"""

import re

from mmseg_ctx.checkpoints.conversion import (
    Conversion,
    build_model,
    refuse_partial,
    restrict_to_model,
    save,
)
from mmseg_ctx.checkpoints.loading import class_colours, class_names, load_checkpoint
from mmseg_ctx.utils.files import writing

# Their name of a projector, and ours. A cascade's heads have a number, as OCRNet's decode_head.1.
PROJECTORS = {'proj': 'estimate_projector', 'apd_proj': 'oracle_projector'}
PROJECTOR = re.compile(r'^(decode_head\.(?:\d+\.)?)(proj|apd_proj)\.')

# A projector is Linear without bias, ReLU, Linear.
PROJECTOR_PARAMETERS = ('0.weight', '2.weight', '2.bias')

# The parts of a segmentor that have weights.
PARTS = ('backbone.', 'neck.', 'decode_head.', 'auxiliary_head.')


def convert_state_dict(state_dict):
    """Bring the weights of the authors' model to our names.

    Args:
        state_dict (dict[str, Tensor]): By the authors' names.

    Returns:
        Conversion: What belongs to no part of a segmentor is left over; what a projector lacks is
        missing.

    Raises:
        ValueError: There are no projectors, or those of a checkpoint of ours, also beside theirs.
    """
    converted, targets, left_over = {}, {}, []
    for source, value in state_dict.items():
        if not source.startswith(PARTS):
            left_over.append(source)
            continue
        target = PROJECTOR.sub(lambda m: f'{m[1]}{PROJECTORS[m[2]]}.', source)
        if target in converted:
            raise ValueError(f'the checkpoint has {target} by their name and by ours')
        targets[source], converted[target] = target, value
    prefixes = {match[1] for match in map(PROJECTOR.match, state_dict) if match}
    if not prefixes:
        raise ValueError(_why_not(state_dict))
    needed = [
        f'{prefix}{projector}.{parameter}'
        for prefix in sorted(prefixes)
        for projector in PROJECTORS.values()
        for parameter in PROJECTOR_PARAMETERS
    ]
    missing = [name for name in needed if name not in converted]
    return Conversion(converted, targets, left_over, missing)


def _why_not(state_dict):
    ours = any(f'.{projector}.' in name for name in state_dict for projector in PROJECTORS.values())
    if ours:
        return 'the checkpoint has our names already (estimate_projector, oracle_projector)'
    return (
        'the checkpoint is not of a context-aware classifier: it has no decode_head.proj and '
        f'decode_head.apd_proj, but {", ".join(list(state_dict)[:3])}, …'
    )


def convert_cac(source, destination, config=None, force=False, partial=False):
    """Convert a checkpoint of the authors' to one that MMEngine loads into a model of ours.

    Args:
        source (str | Path): The authors' file.
        destination (str | Path): The checkpoint to write.
        config (str | Path | None): Config of the model that it is meant for, whose names then tell
            what is missing and left over; by default only the projectors must be complete.
            Default: None.
        force (bool): Whether an existing ``destination`` is replaced. Default: False.
        partial (bool): Whether what fits is converted although weights are missing or have no
            place, see :func:`refuse_partial`. Default: False.

    Returns:
        Conversion: What was written, and what was renamed, is missing or was left over.

    Raises:
        OSError: A file cannot be read or written.
        ValueError: ``source`` is something else, or does not fit the model.
    """
    with writing(destination, force) as temporary:
        state_dict, meta = load_checkpoint(source)
        conversion = convert_state_dict(state_dict)
        if config is not None:
            conversion = restrict_to_model(conversion, build_model(config))
        if not partial:
            refuse_partial(conversion, source)
        # MMSegmentation 1.x keeps the names and colours of the classes under other names.
        names = {
            'classes': class_names(meta.get('CLASSES')),
            'palette': class_colours(meta.get('PALETTE')),
        }
        known = {name: value for name, value in names.items() if value is not None}
        save(conversion, temporary, meta={'dataset_meta': known} if known else {})
    return conversion

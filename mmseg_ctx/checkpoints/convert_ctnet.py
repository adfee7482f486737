"""Convert the weights that CTNet's authors released.

Their code, https://github.com/syp2ysy/CTNet, is for PaddlePaddle. Four things differ from our
model: names, a batch norm on the class probabilities' logits, biases before batch norms, and the
order of the levels in the joint pyramid upsampling. The backbone equals MMSegmentation's
``ResNetV1d``.
"""

import torch
from mmengine.config import Config

from mmseg_ctx.checkpoints.conversion import Conversion, build_model, convert, restrict_to_model
from mmseg_ctx.checkpoints.paddle import load_pdparams
from mmseg_ctx.utils.configs import config_path
from mmseg_ctx.utils.errors import one_line
from mmseg_ctx.utils.models import build

# Blocks in each stage of the backbones with released weights.
STAGE_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}

# The epsilon of Paddle's batch norm.
EPSILON = 1e-5

# PyTorch's name of a parameter by Paddle's.
PARAMETERS = dict(weight='weight', bias='bias', _mean='running_mean', _variance='running_var')

SCALE_MERGE = 'decode_head.channel_context.excitation.merge'
CLASS_LOGITS = 'decode_head.channel_context.class_logits'
CLASS_NORM = 'class probability norm'

# Our name of a layer by the authors'. A layer with a norm has two modules, see _modules.
LAYERS = {
    'head.ccm.ccm_layer.line': SCALE_MERGE,
    'head.ccm.fc1.0._conv': CLASS_LOGITS,
    'head.ccm.fc1.0._batch_norm': CLASS_NORM,
    'head.cls_head': 'decode_head.conv_seg',
    'head.aux_head.1': 'auxiliary_head.conv_seg',
}
LAYERS_WITH_NORM = {
    'head.conv3x3': 'decode_head.input_conv',
    'head.scm.scm_block.f_query': 'decode_head.spatial_context.query',
    'head.scm.scm_block.f_key': 'decode_head.spatial_context.key',
    'head.scm.scm_block.f_value': 'decode_head.spatial_context.value',
    'head.scm.scm_block.f_up': 'decode_head.spatial_context.expand',
    'head.scm.scm_block.fuse': 'decode_head.spatial_context.fuse',
    'head.scm.conv3x3.0': 'decode_head.channel_conv',
    'head.scm.conv1x1.0': 'decode_head.merge',
    'head.aux_head.0': 'auxiliary_head.convs.0',
}


def _modules():
    """Return our name of each module by the authors' name, for the deepest backbone."""
    modules = dict(LAYERS)

    def add(theirs, conv, norm):
        modules.update({f'{theirs}._conv': conv, f'{theirs}._batch_norm': norm})

    for theirs, ours in LAYERS_WITH_NORM.items():
        add(theirs, f'{ours}.conv', f'{ours}.bn')
    for i in range(4):
        modules[f'head.ccm.ccm_layer.conv{i}'] = f'decode_head.channel_context.excitation.convs.{i}'
    for i in range(3):
        add(f'backbone.conv1_{i + 1}', f'backbone.stem.{3 * i}', f'backbone.stem.{3 * i + 1}')
        theirs, ours = f'backbone.JPU.conv{i + 3}', f'neck.conv_layers.{i}.0'
        modules |= {f'{theirs}.0': f'{ours}.conv', f'{theirs}.1': f'{ours}.bn'}
    for i in range(4):
        theirs, ours = f'backbone.JPU.dilation{i + 1}', f'neck.dilation_layers.{i}.0'
        modules |= {
            f'{theirs}.0.conv1': f'{ours}.depthwise_conv.conv',
            f'{theirs}.0.bn': f'{ours}.depthwise_conv.bn',
            f'{theirs}.0.pointwise': f'{ours}.pointwise_conv.conv',
            f'{theirs}.1': f'{ours}.pointwise_conv.bn',
        }
    for stage, blocks in enumerate(STAGE_BLOCKS[101]):
        for block in range(blocks):
            theirs, ours = f'backbone.bb_{stage}_{block}', f'backbone.layer{stage + 1}.{block}'
            add(f'{theirs}.short', f'{ours}.downsample.1', f'{ours}.downsample.2')
            for i in range(3):
                add(f'{theirs}.conv{i}', f'{ours}.conv{i + 1}', f'{ours}.bn{i + 1}')
    return modules


MODULES = _modules()


def convert_ctnet(source, destination, config=None, force=False, partial=False):
    """Convert a released ``.pdparams`` file to a checkpoint that MMEngine loads.

    Args:
        source (str | Path): The authors' file, ``.pdparams``.
        destination (str | Path): The checkpoint to write.
        config (str | Path | None): Config of the model that the weights are for; without it the
            names of the weights tell, see :func:`released_model`. Default: None.
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
    arrays = load_pdparams(source)
    try:
        model = released_model(arrays) if config is None else build_model(config)
        return restrict_to_model(convert_arrays(arrays), model), {}
    except (IndexError, RuntimeError) as error:
        raise ValueError(
            f'{source} has arrays whose shapes contradict each other: {one_line(error)}'
        ) from error


def released_model(arrays):
    """Build the model of released weights on the meta device.

    Args:
        arrays (dict[str, np.ndarray]): Arrays by the authors' names.

    Returns:
        nn.Module: The model of ``configs/_base_/models/ctnet_r50v1d_jpu.py`` or
        ``ctnet_r50v1d-d8.py``, with the depth and the number of classes of the arrays.

    Raises:
        ValueError: The arrays are no CTNet on a ResNet-50-vd or ResNet-101-vd.
    """
    if 'head.ccm.ccm_layer.line.weight' not in arrays or 'head.cls_head.weight' not in arrays:
        raise ValueError(
            'the weights are not those of a CTNet: they have no head.ccm, head.cls_head'
        )
    blocks = {name.split('.')[1] for name in arrays if name.startswith('backbone.bb_2_')}
    depths = [depth for depth, stages in STAGE_BLOCKS.items() if stages[2] == len(blocks)]
    if not depths:
        raise ValueError(
            'the backbone must be ResNet50_vd or ResNet101_vd, whose third stage has 6 or 23 '
            f'blocks (backbone.bb_2_*), got {len(blocks)}'
        )
    jpu = any(name.startswith('backbone.JPU.') for name in arrays)
    base = 'ctnet_r50v1d_jpu.py' if jpu else 'ctnet_r50v1d-d8.py'
    model = Config.fromfile(config_path(f'_base_/models/{base}')).model
    model.backbone.depth = depths[0]
    num_classes = arrays['head.cls_head.weight'].shape[0]
    model.decode_head.num_classes = model.auxiliary_head.num_classes = num_classes
    return build(model)


def convert_arrays(arrays):
    """Rename and rearrange the arrays of a CTNet or of its head alone.

    Args:
        arrays (dict[str, np.ndarray]): Arrays by the authors' names.

    Returns:
        Conversion: The weights. ``missing`` is empty, and :func:`restrict_to_model` fills it.

    Raises:
        ValueError: An array is missing that another one has to be folded into.
    """
    state_dict, targets, left_over = {}, {}, []
    for source, array in arrays.items():
        module, _, parameter = source.rpartition('.')
        if module not in MODULES or parameter not in PARAMETERS:
            left_over.append(source)
            continue
        targets[source] = f'{MODULES[module]}.{PARAMETERS[parameter]}'
        state_dict[targets[source]] = torch.tensor(array)
    try:
        # By each removed name, the name that has its values now.
        folded = _fold_class_norm(state_dict) | _fold_biases(state_dict)
    except KeyError as error:
        module, _, parameter = error.args[0].rpartition('.')
        names = [t for t, ours in MODULES.items() if ours == module]
        names += [t for t, ours in PARAMETERS.items() if ours == parameter]
        raise ValueError(f'the weights lack {".".join(names)}') from None
    targets = {source: folded.get(name, name) for source, name in targets.items()}
    if f'{SCALE_MERGE}.weight' in state_dict:
        # Paddle multiplies by the weight itself, PyTorch by its transpose.
        weight = state_dict[f'{SCALE_MERGE}.weight']
        state_dict[f'{SCALE_MERGE}.weight'] = weight.transpose(0, 1).contiguous()
    _reorder_levels(state_dict)
    return Conversion(state_dict, targets, left_over, [])


def _fold_class_norm(state_dict):
    """Fold the 1×1 convolution and batch norm of the class logits into one layer."""
    weight, bias = f'{CLASS_LOGITS}.weight', f'{CLASS_LOGITS}.bias'
    if weight not in state_dict:
        return {}
    norm = {name: state_dict.pop(f'{CLASS_NORM}.{name}').double() for name in PARAMETERS.values()}
    scale = norm['weight'] / (norm['running_var'] + EPSILON).sqrt()  # [N]
    shift = state_dict[bias].double() - norm['running_mean']  # [N]
    matrix = state_dict[weight].flatten(1)  # [N, C]
    state_dict[weight] = (scale[:, None] * matrix).to(matrix.dtype)
    state_dict[bias] = (scale * shift + norm['bias']).to(matrix.dtype)
    return {
        f'{CLASS_NORM}.{name}': weight if name in ('weight', 'running_var') else bias
        for name in norm
    }


def _fold_biases(state_dict):
    """Subtract the bias of a convolution from the mean of the batch norm after it."""
    folded = {}
    for bias in [name for name in state_dict if name.endswith('.conv.bias')]:
        mean = f'{bias.removesuffix("conv.bias")}bn.running_mean'
        state_dict[mean] = state_dict[mean] - state_dict.pop(bias)
        folded[bias] = mean
    return folded


def _reorder_levels(state_dict):
    """Reverse the neck's levels: the authors concatenate deepest first, ``JPU`` finest first."""
    for branch in range(4):
        layer = f'neck.dilation_layers.{branch}.0'
        axes = dict.fromkeys((f'{layer}.depthwise_conv.bn.{p}' for p in PARAMETERS.values()), 0)
        axes |= {f'{layer}.depthwise_conv.conv.weight': 0, f'{layer}.pointwise_conv.conv.weight': 1}
        for name in axes.keys() & state_dict.keys():
            levels = state_dict[name].chunk(3, dim=axes[name])
            state_dict[name] = torch.cat(levels[::-1], dim=axes[name])

"""The rows of the default study: the five methods, and each paper's ablation that scenes can show.

All have the same small encoder, data, schedule and seeds.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

SEEDS = (0, 1, 2)
ABLATION_SEEDS = (0, 1)


class Row(NamedTuple):
    """A config that is trained once a seed.

    Attributes:
        name (str): In the table, and of the folder of its runs.
        config (str): File of the package's configs, or path of another one.
        overrides (dict): What differs from the config, by dotted keys as MMEngine's
            ``--cfg-options`` has them. Default: nothing.
        shows (str): What the row is for. Default: nothing.
        seeds (Sequence[int]): Default: three.
    """

    name: str
    config: str
    overrides: Mapping = MappingProxyType({})
    shows: str = ''
    seeds: tuple = SEEDS


def _scenes(method, name=None):
    return f'{method}/{name or method}_r18-small_1xb16-600_context-scenes-128x128.py'


CACNET = _scenes('cacnet')
ACNET = _scenes('acnet')
DMNET = _scenes('dmnet')
CTNET = _scenes('ctnet')
CAC_DMNET = _scenes('cac', 'cac-dmnet')


def _ablation(name, config, shows, **head):
    """Return a row whose decode head has other arguments."""
    overrides = {f'model.decode_head.{key}': value for key, value in head.items()}
    return Row(name, config, overrides, shows, ABLATION_SEEDS)


ROWS = (
    Row('fcn', _scenes('fcn'), shows='the baseline of all'),
    Row('cacnet', CACNET, shows='CaC-Net'),
    Row('acnet', ACNET, shows='ACNet'),
    Row('dmnet', DMNET, shows='DMNet'),
    Row('ctnet', CTNET, shows='CTNet'),
    Row(
        'ctnet-no-cp-loss',
        CTNET,
        {'model.decode_head.loss_class_probability': None},
        'CTNet, Figure 11',
    ),
    Row('cac-fcn', _scenes('cac', 'cac-fcn'), shows='CAC around FCN'),
    Row('cac-dmnet', CAC_DMNET, shows='CAC around DMNet'),
    Row('cac-ctnet', _scenes('cac', 'cac-ctnet'), shows='CAC around CTNet'),
    _ablation('cacnet-fixed', CACNET, 'CaC-Net, Table 6', kernel_source='fixed'),
    _ablation('cacnet-pooled', CACNET, 'CaC-Net, Table 6', kernel_source='pooled'),
    _ablation(
        'acnet-1-block',
        ACNET,
        'ACNet, Table 3',
        in_channels=(64,),
        in_index=(2,),
        block_channels=(64,),
    ),
    _ablation(
        'acnet-2-blocks',
        ACNET,
        'ACNet, Table 3',
        in_channels=(32, 64),
        in_index=(1, 2),
        block_channels=(64, 56),
    ),
    _ablation('dmnet-depthwise', DMNET, 'DMNet, Table 1', filter_type='depthwise'),
    _ablation('dmnet-regular', DMNET, 'DMNet, Table 1', filter_type='regular'),
    _ablation('ctnet-channel', CTNET, 'CTNet, Table 5', mode='channel'),
    _ablation('ctnet-spatial', CTNET, 'CTNet, Table 5', mode='spatial'),
    _ablation('ctnet-parallel', CTNET, 'CTNet, Table 6', mode='parallel'),
    _ablation('cac-dmnet-no-kl', CAC_DMNET, 'CAC, Table 2', loss_kl=None),
    _ablation('cac-dmnet-dot', CAC_DMNET, 'CAC, Table 4', context_logits='dot'),
    _ablation('cac-dmnet-prototype', CAC_DMNET, 'CAC, Table 5', projector_input='prototype'),
)

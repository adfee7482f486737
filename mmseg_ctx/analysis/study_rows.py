"""The rows of the default study: the five methods, and each paper's ablation that scenes can show.

All have the same small encoder, data, schedule and seeds. Those that are trained by default take
less than an hour on two cores of a CPU.
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
        by_default (bool): Whether it is trained where no rows are named. Default: True.
    """

    name: str
    config: str
    overrides: Mapping = MappingProxyType({})
    shows: str = ''
    seeds: tuple = SEEDS
    by_default: bool = True


def _scenes(name):
    """Return the config of the context scenes whose file begins with a name."""
    return f'{name}_r18-small_1xb16-600_context-scenes-128x128.py'


def _ablation(name, config, shows, *, by_default=True, **head):
    """Return a row whose decode head has other arguments than the config's."""
    overrides = {f'model.decode_head.{key}': value for key, value in head.items()}
    return Row(name, config, overrides, shows, ABLATION_SEEDS, by_default)


CACNET = _scenes('cacnet/cacnet')
ACNET = _scenes('acnet/acnet')
DMNET = _scenes('dmnet/dmnet')
CTNET = _scenes('ctnet/ctnet')
CTNET_NO_LOSS = _scenes('ctnet/ctnet-no-class-probability-loss')
CAC = 'cac/cac'
CAC_ABLATION = 'cac/ablations/cac-dmnet'

ONE_BLOCK = dict(in_channels=(64,), in_index=(2,), block_channels=(64,))
TWO_BLOCKS = dict(in_channels=(32, 64), in_index=(1, 2), block_channels=(64, 56))

ROWS = (
    Row('fcn', _scenes('fcn/fcn'), shows='the baseline of all'),
    Row('cacnet', CACNET, shows='CaC-Net'),
    Row('acnet', ACNET, shows='ACNet'),
    Row('dmnet', DMNET, shows='DMNet'),
    Row('ctnet', CTNET, shows='CTNet'),
    Row('cac-fcn', _scenes(f'{CAC}-fcn'), shows='CAC around FCN'),
    Row('cac-dmnet', _scenes(f'{CAC}-dmnet'), shows='CAC around DMNet'),
    Row('cac-ctnet', _scenes(f'{CAC}-ctnet'), shows='CAC around CTNet'),
    _ablation('cacnet-fixed', CACNET, 'CaC-Net, Table 6: learned kernels', kernel_source='fixed'),
    _ablation(
        'cacnet-pooled',
        CACNET,
        'CaC-Net, Table 6: by global pooling',
        by_default=False,
        kernel_source='pooled',
    ),
    _ablation('acnet-1-block', ACNET, 'ACNet, Table 3', **ONE_BLOCK),
    _ablation('acnet-2-blocks', ACNET, 'ACNet, Table 3', by_default=False, **TWO_BLOCKS),
    _ablation('dmnet-depthwise', DMNET, 'DMNet, Table 1: learned filters', filter_type='depthwise'),
    _ablation(
        'dmnet-regular',
        DMNET,
        'DMNet, Table 1: learned filters',
        by_default=False,
        filter_type='regular',
    ),
    _ablation('ctnet-no-cp-loss', CTNET_NO_LOSS, 'CTNet, Figure 11: no class-probability loss'),
    _ablation('ctnet-channel', CTNET, 'CTNet, Table 5: OCCM', mode='channel'),
    _ablation('ctnet-spatial', CTNET, 'CTNet, Table 5: OSCM', mode='spatial'),
    _ablation('ctnet-parallel', CTNET, 'CTNet, Table 6: PANet', by_default=False, mode='parallel'),
    _ablation(
        'cac-dmnet-no-kl',
        _scenes(f'{CAC_ABLATION}-losses-refined-prior-oracle'),
        'CAC, Table 2: no KL loss',
    ),
    _ablation(
        'cac-dmnet-dot',
        _scenes(f'{CAC_ABLATION}-context-dot'),
        'CAC, Table 4: dot product',
    ),
    _ablation(
        'cac-dmnet-prototype',
        _scenes(f'{CAC_ABLATION}-projector-prototype'),
        'CAC, Table 5: projector of prototypes',
    ),
)

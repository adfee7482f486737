"""Context in semantic segmentation: CaC-Net, ACNet, DMNet, CTNet and CAC for MMSegmentation.

Importing the package registers its heads, backbones, losses, segmentors, data sets, transforms and
metrics in MMSegmentation's own registries, makes ``mmseg_ctx::`` known to MMEngine's config bases
and ``pip://`` to its checkpoints, and lets checkpoints that MMEngine wrote load with
``weights_only=True``. An existing project needs one line,
``custom_imports = dict(imports=['mmseg_ctx'])``.
"""

from mmseg_ctx.utils.stack import require_mmseg

require_mmseg()

from mmseg_ctx import backbones, datasets, evaluation, heads, hooks, losses, segmentors
from mmseg_ctx.checkpoints.safe_globals import register_safe_globals
from mmseg_ctx.utils.configs import config_path, register_config_package
from mmseg_ctx.version import __version__

register_safe_globals()
register_config_package()

__all__ = [
    '__version__',
    'backbones',
    'config_path',
    'datasets',
    'evaluation',
    'heads',
    'hooks',
    'losses',
    'segmentors',
]

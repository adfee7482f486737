"""Published ways of using context in semantic segmentation, for MMSegmentation.

Importing the package registers its heads, backbones, losses, segmentors, data sets and metrics in
MMSegmentation's own registries, and makes ``mmseg_ctx::`` known to MMEngine's config bases and
``pip://`` to its checkpoints. With upstream MMEngine and PyTorch 2.6 or newer, it also
lets MMEngine load its own checkpoints. An existing project needs one line,
``custom_imports = dict(imports=['mmseg_ctx'])``.
"""

from mmseg_ctx.utils.stack import require_mmseg

require_mmseg()

from mmseg_ctx import backbones, datasets, evaluation, heads, hooks, losses, segmentors
from mmseg_ctx.checkpoints import load_model, save_model
from mmseg_ctx.checkpoints.stand_ins import help_upstream_mmengine
from mmseg_ctx.utils.configs import config_path, register_config_package
from mmseg_ctx.version import __version__

help_upstream_mmengine()
register_config_package()

__all__ = [
    '__version__',
    'backbones',
    'config_path',
    'datasets',
    'evaluation',
    'heads',
    'hooks',
    'load_model',
    'losses',
    'save_model',
    'segmentors',
]

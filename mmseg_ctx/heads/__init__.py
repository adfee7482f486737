"""Decode heads, one file a paper; importing this registers them in ``mmseg.registry.MODELS``."""

from mmseg_ctx.heads.dmnet import DynamicMultiScaleHead

__all__ = ['DynamicMultiScaleHead']

"""Decode heads, one file a paper; importing this registers them in ``mmseg.registry.MODELS``."""

from mmseg_ctx.heads.acnet import AdaptiveContextHead
from mmseg_ctx.heads.cac import ContextAwareClassifierHead
from mmseg_ctx.heads.cacnet import ContextAdaptiveConvHead
from mmseg_ctx.heads.ctnet import ContextTandemHead
from mmseg_ctx.heads.dmnet import DynamicMultiScaleHead

__all__ = [
    'AdaptiveContextHead',
    'ContextAdaptiveConvHead',
    'ContextAwareClassifierHead',
    'ContextTandemHead',
    'DynamicMultiScaleHead',
]

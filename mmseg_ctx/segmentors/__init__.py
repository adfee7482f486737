"""Segmentors without full-size logits, registered in ``mmseg.registry.MODELS``."""

from mmseg_ctx.segmentors.memory_efficient import (
    MemoryEfficientCascadeEncoderDecoder,
    MemoryEfficientEncoderDecoder,
    MemoryEfficientSegmentor,
)
from mmseg_ctx.segmentors.test_time_augmentation import MemoryEfficientSegTTAModel

__all__ = [
    'MemoryEfficientCascadeEncoderDecoder',
    'MemoryEfficientEncoderDecoder',
    'MemoryEfficientSegTTAModel',
    'MemoryEfficientSegmentor',
]

"""Decode heads, one file a paper; importing this registers them in ``mmseg.registry.MODELS``."""

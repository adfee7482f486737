"""Losses of the papers; importing this registers them in ``mmseg.registry.MODELS``."""

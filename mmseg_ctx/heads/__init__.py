"""Decode heads, one file a paper; importing this registers them in ``mmseg.registry.MODELS``.

Each entry of ``methods.yml`` names a file here and the head in it.
"""

from importlib import import_module

from mmseg_ctx.utils.methods import METHODS

for _method in METHODS.values():
    globals()[_method.head] = getattr(import_module(f'{__name__}.{_method.name}'), _method.head)

__all__ = sorted(_method.head for _method in METHODS.values())

"""Decode heads, one file a paper; importing this registers them in ``mmseg.registry.MODELS``.

Each file and the class in it are those of an entry in ``methods.yml``.
"""

from importlib import import_module

from mmseg_ctx.utils.methods import METHODS

for _method in METHODS.values():
    globals()[_method.head] = getattr(import_module(f'{__name__}.{_method.name}'), _method.head)

__all__ = sorted(_method.head for _method in METHODS.values())

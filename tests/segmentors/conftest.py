"""Fixtures of the tests of segmentors."""

import pytest
from mmengine.registry import init_default_scope

from mmseg_ctx.ops import resizable_logits


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmseg')


@pytest.fixture
def messages(monkeypatch):
    """What is logged about full-size logits."""
    lines = []
    monkeypatch.setattr(resizable_logits, '_LOGGED', set())
    for module in ('ops.resizable_logits', 'segmentors.memory_efficient'):
        monkeypatch.setattr(f'mmseg_ctx.{module}.print_log', lambda line, **_: lines.append(line))
    return lines

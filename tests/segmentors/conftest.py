"""Fixtures of the tests of segmentors."""

import pytest

from mmseg_ctx.ops import resizable_logits


@pytest.fixture
def messages(monkeypatch):
    """What is logged about full-size logits."""
    lines = []
    monkeypatch.setattr(resizable_logits, '_LOGGED', set())
    for module in ('ops.resizable_logits', 'segmentors.memory_efficient'):
        monkeypatch.setattr(f'mmseg_ctx.{module}.print_log', lambda line, **_: lines.append(line))
    return lines

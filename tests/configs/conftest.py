"""What the tests that train have in common."""

import pytest


@pytest.fixture
def folder(tmp_path, monkeypatch, quick_runs):
    """Work in an empty folder, below which configs look for ``data/``; return it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path

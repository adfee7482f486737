"""What the tests that train have in common."""

import pytest
from mmengine import Config


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Work in an empty folder, below which configs look for ``data/``; return it.

    MMEngine prints and dumps a run's config formatted as code, which takes as long as training a
    toy; here it is written as a dictionary.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Config, 'pretty_text', property(lambda config: str(config.to_dict())))
    return tmp_path

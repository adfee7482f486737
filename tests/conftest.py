import pytest
import torch


@pytest.fixture(autouse=True)
def _same_random_numbers():
    """Start each test from the same seed, whatever ran before it."""
    torch.manual_seed(0)

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import runner


def pytest_addoption(parser):
    parser.addoption(
        '--cuda', action='store_true', help='run on CUDA alone, and only what can run on a device'
    )


def pytest_configure(config):
    if config.getoption('--cuda') and not torch.cuda.is_available():
        raise pytest.UsageError('--cuda needs a CUDA device, and PyTorch finds none here')


def pytest_generate_tests(metafunc):
    """Run each test that takes a ``device`` on the CPU, and on CUDA where there is one."""
    if 'device' in metafunc.fixturenames:
        devices = [] if metafunc.config.getoption('--cuda') else ['cpu']
        devices += ['cuda'] if torch.cuda.is_available() else []
        metafunc.parametrize('device', devices, indirect=True)


def pytest_collection_modifyitems(config, items):
    if config.getoption('--cuda'):
        on_cuda = [item for item in items if 'device' in item.fixturenames]
        config.hook.pytest_deselected(items=[item for item in items if item not in on_cuda])
        items[:] = on_cuda


@pytest.fixture
def device(request):
    """A device; what is computed on it has the precision of its type."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield torch.device(request.param)


@pytest.fixture(autouse=True)
def _same_random_numbers():
    """Start each test from the same seed, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def mmseg_scope():
    """Let types without a scope be MMSegmentation's, as in a run."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture
def quick_runs(monkeypatch):
    """Let runs of MMEngine begin soon.

    MMEngine asks the machine what it has, and formats the config as code several times. Both take
    as long as training a toy. Here configs are written as plain assignments.
    """

    def text(config):
        return ''.join(f'{name} = {value!r}\n' for name, value in config.to_dict().items())

    monkeypatch.setattr(Config, 'pretty_text', property(text))
    monkeypatch.setattr(runner, 'collect_env', dict)

"""The counted memory of a training step against what real steps allocate."""

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from mmseg_ctx.analysis.benchmark import peak_memory
from mmseg_ctx.analysis.memory import OURS, memory_table, training_memory
from mmseg_ctx.utils.methods import METHODS
from mmseg_ctx.utils.models import build
from tests.helpers import ROOT, data_samples

FCN = ROOT / 'configs/fcn/fcn_r18-small_1xb8-1500_camvid-160x208.py'
CAC = ROOT / 'configs' / METHODS['cac'].suites['camvid']


def real_step(config):
    """Return the bytes of weights and optimizer state, and what a real step allocates beside."""
    model = build(config.model, 'cpu').train()
    optim = build_optim_wrapper(model, config.optim_wrapper)
    shape = (config.train_dataloader.batch_size, *config.crop_size)

    def step():
        images = torch.rand(shape[0], 3, *shape[1:])
        loss, _ = model.parse_losses(model.loss(images, data_samples(torch.randint(11, shape))))
        optim.update_params(loss)

    step()  # the optimizer has its state from here on
    states = [value for state in optim.optimizer.state.values() for value in state.values()]
    held = (
        [*model.parameters(), *model.buffers()],
        [each for each in states if torch.is_tensor(each)],
    )
    return *(sum(each.nbytes for each in tensors) for tensors in held), peak_memory(step)


@pytest.mark.parametrize(
    'path', [FCN, pytest.param(CAC, marks=pytest.mark.slow)], ids=['FCN', 'CAC']
)
@pytest.mark.parametrize('stock', [False, True], ids=['ours', 'stock'])
def test_the_peak_is_that_of_a_real_step(path, stock):
    config = Config.fromfile(path)
    config.train_dataloader.batch_size = 16  # beside which tiles are small
    if stock:
        config.model.type = config.model.type.removeprefix(OURS)
    memory = training_memory(config)
    parameters, optimizer, allocated = real_step(config)
    assert (memory.parameters, memory.optimizer) == (parameters, optimizer)
    assert memory.peak == pytest.approx(parameters + optimizer + allocated, rel=0.05)
    assert memory.gradients < memory.activations < memory.peak


def test_hard_pixels_and_mixed_precision_are_counted():
    config = Config.fromfile(FCN)
    config.model.type = config.model.type.removeprefix(OURS)
    plain = training_memory(config)
    config.optim_wrapper.type = 'AmpOptimWrapper'
    assert training_memory(config).activations < 0.8 * plain.activations
    config.optim_wrapper.type = 'OptimWrapper'
    # Which pixels are hard depends on values.
    config.model.decode_head.sampler = dict(type='OHEMPixelSampler', thresh=0.7, min_kept=1000)
    assert training_memory(config).peak > plain.peak


def test_the_table_says_which_gpu_is_large_enough():
    (row,) = memory_table([FCN]).rows
    assert (row['config'], row['images'], row['fits']) == (FCN.stem, 8, '8')
    assert row['peak'] < row['stock_peak']


@pytest.mark.parametrize(
    ('lines', 'message'),
    [
        ("model = dict(type='Other')", r"one of .*EncoderDecoder.*, got 'Other'"),
        ('crop_size = None\nmodel = dict(data_preprocessor=None)', r'mine\.py has no crop_size'),
    ],
)
def test_a_config_that_cannot_be_counted_is_named(lines, message, tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(f'_base_ = {str(FCN)!r}\n{lines}\n')
    with pytest.raises(ValueError, match=message):
        memory_table([path])

"""CTNet against the authors' recorded outputs and the paper's equations, and its modes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmseg.models.decode_heads import FCNHead
from torch import nn

from mmseg_ctx.checkpoints.convert_ctnet import convert_arrays
from mmseg_ctx.heads import ContextTandemHead
from mmseg_ctx.heads.ctnet import ChannelContextModule, SpatialContextModule
from mmseg_ctx.losses.class_probability import class_shares
from tests.heads.contract import total
from tests.helpers import DATA, assert_relative, data_samples

NUM_CLASSES = 5
SMALL = dict(
    in_channels=12,
    channels=16,
    num_classes=NUM_CLASSES,
    key_channels=4,
    kernel_sizes=(3, 9),
    norm_cfg=dict(type='BN'),
)


def small_head(**arguments):
    return ContextTandemHead(**{**SMALL, **arguments})


def loss_of(head, inputs, labels):
    return head.loss(inputs, data_samples(labels), ConfigDict())


def random_batch():
    return [torch.randn(2, 12, 8, 8)], torch.randint(0, NUM_CLASSES, (2, 61, 59))


# The authors' released code


def test_equals_the_recorded_outputs():
    recorded = np.load(DATA / 'ctnet_head.npz')
    arrays = {f'head.{key[2:]}': recorded[key] for key in recorded.files if key.startswith('w:')}
    converted = convert_arrays(arrays)
    assert not converted.left_over
    common = dict(num_classes=6, norm_cfg=dict(type='BN'))
    auxiliary = FCNHead(
        **common,
        **dict(in_channels=8, channels=8, in_index=0),
        **dict(num_convs=1, kernel_size=1, concat_input=False),
    )
    head = ContextTandemHead(16, 96, key_channels=8, **common)
    heads = nn.ModuleDict(dict(decode_head=head, auxiliary_head=auxiliary)).eval()
    heads.load_state_dict(converted.state_dict, strict=True)
    inputs = [torch.from_numpy(recorded[f'input{i}']) for i in range(2)]
    features, probabilities = head.forward_context(inputs)
    assert_relative(probabilities.detach(), recorded['class_probabilities'], 1e-4)
    assert_relative(head.cls_seg(features).detach(), recorded['seg_logits'], 1e-4)
    assert_relative(auxiliary(inputs).detach(), recorded['aux_logits'], 1e-4)
    losses = loss_of(head, inputs, torch.from_numpy(recorded['label']).long())
    expected = 0.1 * recorded['loss_class_probability']
    assert_relative(losses['loss_class_probability'].detach(), expected, 1e-4)


# The paper's equations, in float64


def naive_channel_context(module, x):
    """Eqs. 1–5 for one image ``x`` ``[C, h, w]``, one channel at a time."""
    channels = len(x)
    mean, largest = x.mean((1, 2)), x.max((1, 2))
    pooled = dict(avg=mean, max=largest, mix=mean + largest)[module.excitation.pooling]
    kernels = [conv.weight[0, 0].numpy() for conv in module.excitation.convs]
    merge = module.excitation.merge.weight[0].numpy()
    context = np.zeros(channels)
    for channel in range(channels):
        for kernel, weight in zip(kernels, merge, strict=True):
            for tap, value in enumerate(kernel):
                neighbour = channel + tap - len(kernel) // 2
                if 0 <= neighbour < channels:
                    context[channel] += weight * value * pooled[neighbour]
    context = 1 / (1 + np.exp(-context))
    logits = module.class_logits.weight.numpy() @ context + module.class_logits.bias.numpy()
    probabilities = np.exp(logits) / np.exp(logits).sum()
    return context[:, None, None] * x, probabilities, np.outer(context, probabilities)


@pytest.mark.parametrize('pooling', ['avg', 'max', 'mix'])
@torch.no_grad()
def test_channel_context_is_equations_1_to_5(pooling):
    module = ChannelContextModule(8, NUM_CLASSES, (3, 7, 15), pooling).double()
    x = torch.randn(2, 8, 5, 6).double()
    outputs = module(x)
    for image in range(2):
        expected = naive_channel_context(module, x[image].numpy())
        for actual, value in zip(outputs, expected, strict=True):
            assert_relative(actual[image], value, 1e-12)


@torch.no_grad()
def test_spatial_context_is_equations_6_and_7():
    module = SpatialContextModule(8, 4).double()
    x = torch.randn(2, 8, 3, 4).double()
    class_features = torch.randn(2, 8, NUM_CLASSES).double()
    query = module.query(x)
    key = module.key(class_features[..., None])[..., 0]
    value = module.value(class_features[..., None])[..., 0]
    context = torch.zeros(2, 4, 3, 4).double()
    for image, row, column in np.ndindex(2, 3, 4):
        scores = [query[image, :, row, column] @ key[image, :, j] / 2 for j in range(NUM_CLASSES)]
        weights = np.exp(scores) / np.exp(scores).sum()
        for j in range(NUM_CLASSES):
            context[image, :, row, column] += weights[j] * value[image, :, j]
    expected = module.fuse(module.expand(context) + x)
    assert_relative(module(x, class_features), expected, 1e-12)


def test_gradients_of_the_modules():
    channel = ChannelContextModule(4, 3, (3, 5), 'mix').double()
    spatial = SpatialContextModule(4, 2, act_cfg=None).double()

    def tandem(x):
        middle, probabilities, class_features = channel(x)
        return spatial(middle, class_features), probabilities

    x = torch.randn(2, 4, 3, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(tandem, x)


# Modes


@pytest.mark.parametrize('mode', ['tandem', 'parallel', 'channel', 'spatial'])
@pytest.mark.parametrize('with_loss', [True, False])
def test_modes(mode, with_loss):
    arguments = {} if with_loss else dict(loss_class_probability=None)
    head = small_head(mode=mode, **arguments)
    inputs, labels = random_batch()
    losses = loss_of(head, inputs, labels)
    assert ('loss_class_probability' in losses) == (with_loss and mode != 'spatial')
    total(losses).backward()
    for name, parameter in head.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    program = torch.export.export(head.eval(), (inputs,)).module()
    torch.testing.assert_close(program(inputs), head(inputs), rtol=1e-5, atol=1e-6)
    assert hasattr(head, 'channel_context') == (mode != 'spatial')
    assert hasattr(head, 'spatial_context') == (mode != 'channel')


@pytest.mark.parametrize(('mode', 'guided'), [('tandem', True), ('parallel', False)])
@torch.no_grad()
def test_spatial_context_is_guided_in_tandem_only(mode, guided):
    head = small_head(mode=mode).eval()
    seen = []
    head.spatial_context.register_forward_hook(lambda *arguments: seen.append(arguments[2]))
    inputs, _ = random_batch()
    head(inputs)
    head.channel_context.class_logits.weight.mul_(-20)
    head(inputs)
    assert torch.equal(*seen) != guided


@pytest.mark.parametrize('classes', [dict(num_classes=1), dict(num_classes=2, out_channels=1)])
def test_a_binary_model_expects_two_classes(classes):
    """With a sigmoid, labels are 0 and 1 however the model's classes are counted."""
    head = small_head(**classes, loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True))
    inputs, labels = random_batch()
    losses = loss_of(head, inputs, labels % 2)
    _, probabilities = head.forward_context(inputs)
    expected = 0.1 * F.binary_cross_entropy(probabilities, class_shares(labels % 2, 2))
    torch.testing.assert_close(losses['loss_class_probability'], expected)
    assert head(inputs).shape[1] == 1

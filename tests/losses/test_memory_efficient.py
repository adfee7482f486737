"""Losses without full-size logits: MMSegmentation's own, of any head."""

import copy
import pickle
from contextlib import suppress

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmseg.models.decode_heads import FCNHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import CrossEntropyLoss
from mmseg.registry import MODELS
from mmseg.structures import OHEMPixelSampler
from torch import nn

from mmseg_ctx.analysis.benchmark import peak_memory
from mmseg_ctx.losses import use_memory_efficient_losses
from tests.helpers import Uploads, assert_relative, data_samples

CLASSES = 5
CHANNELS = (6, 12)
COMMON = dict(
    norm_cfg=dict(type='BN'),
    in_channels=12,
    in_index=1,
    channels=8,
    num_classes=CLASSES,
    dropout_ratio=0,
)
FCN = dict(COMMON, type='FCNHead', num_convs=1, concat_input=False)
BOTH = dict(COMMON, in_channels=[6, 12], in_index=[0, 1])
CLASS_WEIGHT = [1.0, 2.0, 0.5, 0.0, 3.0]


@MODELS.register_module(force=True)
class MarginHead(FCNHead):
    """A user's head with a loss term of its own beside the inherited ones."""

    def loss_by_feat(self, seg_logits, batch_data_samples):
        losses = super().loss_by_feat(seg_logits, batch_data_samples)
        return {**losses, 'loss_margin': (0.5 - seg_logits).relu().mean()}


@MODELS.register_module(force=True)
class MarginLossHead(FCNHead):
    """The same by another method."""

    def loss(self, inputs, batch_data_samples, train_cfg):
        losses = super().loss(inputs, batch_data_samples, train_cfg)
        return {**losses, 'loss_margin': (0.5 - self(inputs)).relu().mean()}


@MODELS.register_module(force=True)
class OwnLossByFeatHead(FCNHead):
    """A user's head that computes its losses itself."""

    def loss_by_feat(self, seg_logits, batch_data_samples):
        label = self._stack_batch_gt(batch_data_samples)
        target = nn.functional.interpolate(label.float(), seg_logits.shape[2:])[:, 0].long()
        return dict(loss_own=self.loss_decode(seg_logits, target, ignore_index=255))


@MODELS.register_module(force=True)
class OwnLossHead(OwnLossByFeatHead):
    """The same by another method."""

    loss_by_feat = FCNHead.loss_by_feat

    def loss(self, inputs, batch_data_samples, train_cfg):
        return OwnLossByFeatHead.loss_by_feat(self, self(inputs), batch_data_samples)


@MODELS.register_module(force=True)
class FocalCrossEntropy(CrossEntropyLoss):
    """A user's subclass of the loss."""

    def forward(self, *args, **kwargs):
        return super().forward(*args, **kwargs) ** 2


class UsersSampler(OHEMPixelSampler):
    """A user's subclass of the sampler."""


HEADS = {
    'FCN': FCN,
    'PSP': dict(COMMON, type='PSPHead', pool_scales=(1, 3)),
    'ASPP': dict(COMMON, type='ASPPHead', dilations=(1, 2)),
    'UPer': dict(BOTH, type='UPerHead', pool_scales=(1, 3)),
    'SegFormer': dict(BOTH, type='SegformerHead'),
    'resize_concat': dict(
        FCN, in_channels=[6, 12], in_index=[0, 1], input_transform='resize_concat'
    ),
    'OCR': dict(COMMON, type='OCRHead', ocr_channels=6),
    'Enc': dict(BOTH, type='EncHead', num_codes=4),
    'DA': dict(COMMON, type='DAHead', pam_channels=4),
    'STDC': dict(FCN, type='STDCHead', num_classes=2),
    'KNet': dict(
        type='IterativeDecodeHead', num_stages=0, kernel_update_head=[], kernel_generate_head=FCN
    ),
    'user': dict(FCN, type='MarginHead'),
    'user, loss': dict(FCN, type='MarginLossHead'),
    'CTNet': dict(COMMON, type='ContextTandemHead', key_channels=4, kernel_sizes=(3, 5)),
    'ACNet': dict(BOTH, type='AdaptiveContextHead', block_channels=(10, 8)),
    'CAC': dict(type='ContextAwareClassifierHead', head=FCN),
}
OWN = {'user': 'loss_by_feat', 'user, loss': 'loss'}

OHEM = dict(type='OHEMPixelSampler')
WEIGHTED = dict(type='CrossEntropyLoss', class_weight=CLASS_WEIGHT)
LOSSES = {
    'weight': dict(loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.4)),
    'sum': dict(loss_decode=dict(type='CrossEntropyLoss', reduction='sum')),
    'class weights': dict(loss_decode=WEIGHTED),
    'several': dict(
        loss_decode=[
            dict(type='CrossEntropyLoss', avg_non_ignore=True),
            dict(type='CrossEntropyLoss', loss_weight=0.5),
            dict(WEIGHTED, loss_name='loss_weighted'),
            dict(type='CrossEntropyLoss', loss_name='monitored'),
        ]
    ),
    'OHEM below 0.3': dict(sampler=dict(OHEM, thresh=0.3, min_kept=100)),
    'OHEM at least 900': dict(sampler=dict(OHEM, thresh=0.01, min_kept=900)),
    'OHEM all': dict(sampler=dict(OHEM, thresh=0.01, min_kept=10**6)),
    'OHEM of the largest losses': dict(sampler=dict(OHEM, min_kept=500)),
    'OHEM of more than there are': dict(sampler=dict(OHEM, min_kept=10**6)),
    'OHEM, class weights': dict(
        sampler=dict(OHEM, min_kept=300),
        loss_decode=[WEIGHTED, dict(type='CrossEntropyLoss', loss_name='loss_b', loss_weight=3.0)],
    ),
}


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def pair(config):
    """Return a stock head, the same with memory-efficient losses, and what was said of it."""
    stock = MODELS.build(config).train()
    efficient = copy.deepcopy(stock)
    return stock, efficient, use_memory_efficient_losses(efficient)


def labels(size=(36, 44), classes=CLASSES, ignored=0.2):
    label = torch.randint(0, classes, (2, *size))
    return label.masked_fill(torch.rand(label.shape) < ignored, 255)


def step(head, label):
    """Return the losses of fixed features, and the gradients of these and of the weights."""
    generator = torch.Generator().manual_seed(1)
    inputs = [torch.randn(2, width, 9, 11, generator=generator) for width in CHANNELS]
    inputs = [each.requires_grad_() for each in inputs]
    previous = (torch.randn(2, CLASSES, 9, 11, generator=generator),)
    previous = previous if type(head).__name__ == 'OCRHead' else ()
    losses = head.loss(inputs, *previous, data_samples(label), ConfigDict())
    leaves = [*filter(lambda each: each.requires_grad, head.parameters()), inputs[1]]
    total = sum(value.mean() for name, value in losses.items() if 'loss' in name)
    gradients = torch.autograd.grad(total, leaves, allow_unused=True)
    return losses, [gradient for gradient in gradients if gradient is not None]


def assert_same_step(stock, efficient, label):
    (expected, gradients), (losses, others) = step(stock, label), step(efficient, label)
    assert list(losses) == list(expected)
    for name, value in expected.items():
        assert losses[name].shape == value.shape, name
        assert_relative(losses[name].detach(), value.detach(), 1e-5)
    assert len(gradients) == len(others)
    largest = max(gradient.abs().max() for gradient in gradients)
    for gradient, other in zip(gradients, others, strict=True):
        assert (gradient - other).abs().max() <= 1e-5 * largest


@pytest.mark.parametrize('name', HEADS)
def test_any_head(name, monkeypatch):
    stock, efficient, reason = pair(HEADS[name])
    assert (reason is None) == (name not in OWN)
    assert reason is None or f'a {OWN[name]} of its own; only its calls' in reason
    label = labels(classes=stock.num_classes)
    if name == 'STDC':
        label = label.masked_fill(label == 255, 0)  # which reads boundaries from labels alone
    assert_same_step(stock, efficient, label)
    monkeypatch.setattr(BaseDecodeHead, 'loss_by_feat', None)  # nothing is left to the stock losses
    step(efficient, label)
    assert type(efficient).__name__ == type(stock).__name__
    assert isinstance(efficient, type(stock).__mro__[1])
    assert list(efficient.state_dict()) == list(stock.state_dict())


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('name', LOSSES)
def test_any_softmax_cross_entropy(name, align_corners):
    stock, efficient, reason = pair(dict(FCN, align_corners=align_corners, **LOSSES[name]))
    assert reason is None
    # Upstream MMSegmentation looks for the class weight of an ignored pixel, and stops.
    ignored = 0 if 'class_weight' in str(LOSSES[name]) else 0.2
    assert_same_step(stock, efficient, labels(ignored=ignored))


@pytest.mark.parametrize(
    'sampler', [None, dict(OHEM, thresh=0.3, min_kept=9), dict(OHEM, min_kept=9)]
)
@pytest.mark.parametrize('size', [(9, 11), (5, 6), (37, 53), (8, 200), (72, 88)])
def test_any_size(size, sampler):
    stock, efficient, _ = pair(dict(FCN, sampler=sampler))
    assert_same_step(stock, efficient, labels(size))


@pytest.mark.parametrize('name', ['OHEM below 0.3', 'OHEM of the largest losses', 'several'])
def test_nothing_labelled(name):
    _, efficient, _ = pair(dict(FCN, **LOSSES[name]))
    losses, gradients = step(efficient, torch.full((2, 36, 44), 255))
    assert all(value == 0 for key, value in losses.items() if 'loss' in key)
    assert all(torch.equal(gradient, 0 * gradient) for gradient in gradients)


STOCK = {
    'DiceLoss': dict(loss_decode=[dict(type='CrossEntropyLoss'), dict(type='DiceLoss')]),
    'LovaszLoss': dict(loss_decode=dict(type='LovaszLoss', reduction='none')),
    'FocalCrossEntropy': dict(loss_decode=dict(type='FocalCrossEntropy')),
    'sigmoids': dict(loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True)),
    # Weights that broadcast to [B, N, H, W].
    'of sigmoids': dict(
        loss_decode=dict(
            type='CrossEntropyLoss',
            use_sigmoid=True,
            class_weight=[[[weight]] for weight in CLASS_WEIGHT],
        )
    ),
    "'none'": dict(loss_decode=dict(type='CrossEntropyLoss', reduction='none')),
}


@pytest.mark.parametrize('name', STOCK)
def test_another_loss_is_left_alone(name):
    stock, efficient, reason = pair(dict(FCN, **STOCK[name]))
    assert name in reason
    label = labels()
    torch.testing.assert_close(step(efficient, label), step(stock, label), rtol=0, atol=0)


@pytest.mark.parametrize('method', ['loss', 'loss_by_feat'])
def test_losses_of_its_own_are_left_alone(method):
    name = dict(loss='OwnLossHead', loss_by_feat='OwnLossByFeatHead')[method]
    stock, efficient, reason = pair(dict(FCN, type=name))
    assert f'a {method} of its own' in reason
    label = labels()
    torch.testing.assert_close(step(efficient, label), step(stock, label), rtol=0, atol=0)


def test_the_reason_is_that_of_the_losses():
    """Where what MMSegmentation's head does itself needs no full-size logits."""
    for name in ('Enc', 'DA'):
        _, _, reason = pair(dict(HEADS[name], **STOCK['DiceLoss']))
        assert reason == 'its loss is DiceLoss, not CrossEntropyLoss'
    inner = dict(FCN, **STOCK['DiceLoss'])
    assert 'DiceLoss' in pair(dict(HEADS['KNet'], kernel_generate_head=inner))[2]


def test_a_head_without_the_attributes_of_others():
    """``VPDDepthHead``, whose base's constructor is not called."""
    depth = dict(type='VPDDepthHead', in_channels=[16] * 4, embed_dim=16, feature_dim=32)
    _, _, reason = pair(dict(depth, num_deconv_layers=1, num_deconv_filters=(16,)))
    assert 'a loss_by_feat of its own' in reason


def test_another_sampler_or_module_is_left_alone():
    stock, efficient, _ = pair(FCN)
    for head in (stock, efficient):
        head.sampler = UsersSampler(head, thresh=0.3, min_kept=100)
    assert 'its sampler is UsersSampler' in use_memory_efficient_losses(efficient)
    label = labels()
    torch.testing.assert_close(step(efficient, label), step(stock, label), rtol=0, atol=0)
    assert use_memory_efficient_losses(nn.Conv2d(1, 1, 1)) == 'it is no BaseDecodeHead'
    assert 'ignore_index' in pair(dict(FCN, ignore_index=None))[2]


@pytest.mark.parametrize('sampler', [None, dict(OHEM, thresh=0.3), dict(OHEM, min_kept=9)])
@pytest.mark.parametrize('weights', [[1.0, 2.0], [1.0] * 9])
def test_wrong_number_of_class_weights_is_the_same_error(weights, sampler):
    loss = dict(type='CrossEntropyLoss', class_weight=weights)
    stock, efficient, _ = pair(dict(FCN, loss_decode=loss, sampler=sampler))
    messages = []
    for head in (stock, efficient):
        with pytest.raises(RuntimeError, match='weight tensor should be defined') as error:
            step(head, labels(ignored=0))
        messages.append(str(error.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize('wrong', [CLASSES, -1])
def test_labels_that_are_no_class(wrong):
    _, efficient, _ = pair(FCN)
    label = labels()
    label[1, 20, 20] = wrong
    with pytest.raises(ValueError, match=rf'\[0, 5\) or the ignore index 255, got {wrong}$'):
        step(efficient, label)


@pytest.mark.parametrize('sampler', [None, dict(OHEM, min_kept=100)])
def test_class_weights_are_not_copied_in_a_step(sampler):
    stock, efficient, _ = pair(dict(FCN, loss_decode=WEIGHTED, sampler=sampler))
    assert list(efficient.state_dict()) == list(stock.state_dict())
    # Another device, of which there is one on every machine.
    logits = torch.randn(2, CLASSES, 9, 11, device='meta')
    samples = data_samples(torch.zeros(2, 36, 44, dtype=torch.long, device='meta'))
    found = []
    for head in (efficient, pickle.loads(pickle.dumps(efficient)), copy.deepcopy(efficient)):
        head.to('meta')
        with Uploads() as uploads:
            head.loss_by_feat(logits, samples)
        found += uploads.found
    assert found == []
    if sampler is None:
        stock.to('meta')
        with Uploads() as uploads, suppress(NotImplementedError):  # of what reads a value
            stock.loss_by_feat(logits, samples)
        assert uploads.found == [torch.Tensor.new_tensor]


def test_class_weights_that_change():
    stock, efficient, _ = pair(dict(FCN, loss_decode=WEIGHTED))
    for head in (stock, efficient):
        head.loss_decode.class_weight = [3.0, 1.0, 1.0, 1.0, 5.0]
    assert_same_step(stock, efficient, labels(ignored=0))
    for head in (stock, efficient):
        head.loss_decode.class_weight[2] = 7.0
    assert_same_step(stock, efficient, labels(ignored=0))
    for head in (stock, efficient):
        head.loss_decode.class_weight = None
    assert_same_step(stock, efficient, labels())


def test_copies_and_pickles():
    _, efficient, _ = pair(dict(FCN, **LOSSES['OHEM, class weights']))
    label = labels(ignored=0)
    for same in (copy.deepcopy(efficient), pickle.loads(pickle.dumps(efficient))):
        assert type(same) is type(efficient)
        assert same.sampler.context is same
        torch.testing.assert_close(step(same, label), step(efficient, label), rtol=0, atol=0)
    use_memory_efficient_losses(efficient)  # again
    assert type(same) is type(efficient)
    assert type(efficient).__mro__.count(FCNHead) == 1


@pytest.mark.parametrize('sampler', [None, dict(OHEM, thresh=0.3), dict(OHEM, min_kept=300)])
def test_memory(sampler):
    stock, efficient, _ = pair(dict(FCN, num_classes=150, sampler=sampler))
    logits = torch.randn(1, 150, 32, 32, requires_grad=True)
    samples = data_samples(torch.randint(0, 150, (1, 256, 256)))

    def training_step(head):
        def step():
            head.loss_by_feat(logits, samples)['loss_ce'].backward()
            logits.grad = None

        return step

    peaks = [peak_memory(training_step(head)) for head in (stock, efficient)]
    assert peaks[1] <= 0.1 * peaks[0]


def test_compiles_into_one_graph_without_full_size_tensors():
    """By the default backend, losses and gradients."""
    weighted = dict(loss_decode=dict(type='CrossEntropyLoss', class_weight=[0.5, 2.0] * 32))
    heads = [
        pair(dict(FCN, num_classes=64, **arguments))[1]
        for arguments in (
            weighted,
            dict(sampler=dict(OHEM, thresh=0.3, min_kept=100)),
            dict(sampler=dict(OHEM, min_kept=100)),
        )
    ]
    logits = torch.randn(2, 64, 16, 16, requires_grad=True)
    label = labels((256, 256), 64)

    def losses(logits, label):
        return [head.loss_by_feat(logits, data_samples(label)) for head in heads]

    def step(function):
        found = function(logits, label)
        total = sum(value for each in found for name, value in each.items() if 'loss' in name)
        return found, torch.autograd.grad(total, logits)[0]

    compiled = torch.compile(losses, fullgraph=True)
    (expected, gradient), (found, other) = step(losses), step(compiled)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    assert_relative(other, gradient, 1e-5)
    assert peak_memory(lambda: step(compiled)) < 4 * 64 * label.numel() / 2

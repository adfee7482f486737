"""Losses of decode heads, beside MMSegmentation's own ``loss`` at full size."""

import copy

import pytest
import torch
from mmseg.registry import MODELS

from mmseg_ctx.losses import head_losses
from mmseg_ctx.ops import ResizableLogits
from tests.helpers import Uploads, assert_relative, data_samples

pytestmark = pytest.mark.usefixtures('mmseg_scope')
CLASSES = 12
CE = dict(type='CrossEntropyLoss')
WEIGHTS = [0.5 + i for i in range(CLASSES)]
HEAD = dict(in_channels=16, channels=8, num_classes=CLASSES, norm_cfg=dict(type='BN'))
FCN = dict(type='FCNHead', **HEAD)
SEVERAL = dict(HEAD, in_channels=(16, 16), in_index=(1, 2))
OHEM = 'OHEMPixelSampler'
HEADS = {
    'FCN': FCN,
    'weighted': dict(FCN, loss_decode=dict(CE, class_weight=WEIGHTS)),
    'two': dict(FCN, loss_decode=[CE, dict(CE, loss_name='b', loss_weight=2, avg_non_ignore=True)]),
    'summed': dict(FCN, loss_decode=dict(CE, reduction='sum')),
    'hard pixels': dict(FCN, sampler=dict(type=OHEM, thresh=0.7, min_kept=50)),
    'hardest pixels': dict(FCN, sampler=dict(type=OHEM, min_kept=50)),
    'hardest of two': dict(FCN, loss_decode=[CE, CE], sampler=dict(type=OHEM, min_kept=50)),
    'Dice': dict(FCN, loss_decode=[CE, dict(type='DiceLoss')]),
    'Lovász': dict(FCN, loss_decode=dict(type='LovaszLoss', reduction='none')),
    'Tversky': dict(FCN, loss_decode=dict(type='TverskyLoss')),
    'sigmoid': dict(FCN, loss_decode=dict(CE, use_sigmoid=True)),
    'STDC': dict(FCN, type='STDCHead', num_classes=2),
    'DA': dict(HEAD, type='DAHead', pam_channels=4),
    'Enc': dict(SEVERAL, type='EncHead', num_codes=4),
    'EMA': dict(HEAD, type='EMAHead', ema_channels=8, num_bases=4, num_stages=3),
    'UPer': dict(SEVERAL, type='UPerHead'),
    'SegFormer': dict(SEVERAL, type='SegformerHead'),
}


def batch(classes=CLASSES, ignored=True):
    features = [torch.randn(2, 16, 12, 12) for _ in range(3)]
    label = torch.randint(classes, (2, 47, 51))
    label[:, :4] = 255 if ignored else 0
    return features, data_samples(label)


def losses_and_gradients(head, function, features, samples):
    losses = function(features, samples, {})
    total = sum(value.sum() for name, value in losses.items() if 'acc' not in name)
    parameters = [each for each in head.parameters() if each.requires_grad]
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    return {name: value.detach() for name, value in losses.items()}, gradients


def make_resizable(head):
    head.conv_seg.register_forward_hook(lambda module, inputs, output: ResizableLogits(output))


@pytest.mark.parametrize('name', HEADS)
def test_are_the_stock_losses(name):
    """Those of a head's own ``loss`` on resizable logits, and those of ``head_losses``."""
    head = MODELS.build(HEADS[name]).eval()
    ignored = name != 'weighted'  # upstream MMSegmentation has no class weight of ignored pixels
    features, samples = batch(head.num_classes, ignored and name != 'STDC')
    expected = losses_and_gradients(head, head.loss, features, samples)
    make_resizable(head)
    for function in (head.loss, lambda *args: head_losses(head, *args)):
        actual = losses_and_gradients(head, function, features, samples)
        assert list(actual[0]) == list(expected[0])
        torch.testing.assert_close(actual[0], expected[0], rtol=1e-5, atol=1e-6)
        for mine, theirs in zip(actual[1], expected[1], strict=True):
            assert (mine is None) == (theirs is None)
            if mine is not None:
                assert_relative(mine, theirs, 1e-4)


class TestClassWeights:
    def head(self):
        return MODELS.build(HEADS['weighted']).eval()

    def test_survive_the_meta_device_and_half_precision(self):
        head, (features, samples) = self.head(), batch(ignored=False)
        expected = head_losses(head, features, samples, {})['loss_ce']
        with torch.device('meta'):
            other = self.head()
        other.to_empty(device='cpu').load_state_dict(head.state_dict(), strict=True)
        converted = copy.deepcopy(head).half().float()
        converted.load_state_dict(head.state_dict())
        for each in (other, converted):
            actual = head_losses(each, features, samples, {})['loss_ce']
            torch.testing.assert_close(actual, expected, rtol=0, atol=0)

    def test_may_change(self):
        head, (features, samples) = self.head(), batch(ignored=False)
        before = head_losses(head, features, samples, {})['loss_ce']
        head.loss_decode.class_weight = list(reversed(WEIGHTS))
        assert head_losses(head, features, samples, {})['loss_ce'] != before


@pytest.mark.parametrize(
    'name', ['FCN', 'weighted', 'two', 'summed', 'hard pixels', 'hardest pixels']
)
def test_a_step_does_not_wait_for_the_device(name):
    """On the meta device, which stands for any accelerator: it has no values to wait for."""
    head = MODELS.build(HEADS[name]).to('meta')
    features = [torch.zeros(2, 16, 12, 12, device='meta')] * 3
    samples = data_samples(torch.zeros(2, 47, 51, device='meta').long())
    head_losses(head, features, samples, {})  # copies class weights to the device
    with Uploads() as uploads:
        losses = head_losses(head, features, samples, {})
        sum(value for name, value in losses.items() if 'acc' not in name).backward()
    assert not uploads.found


@pytest.mark.parametrize('wrong', [CLASSES, -1, 254])
def test_labels_that_are_no_class(wrong):
    head = MODELS.build(FCN)
    features, samples = batch()
    samples[1].gt_sem_seg.data[0, 20, 20] = wrong
    with pytest.raises(ValueError, match=rf'\[0, 12\) or the ignore index 255, got {wrong}$'):
        head_losses(head, features, samples, {})


def test_a_loss_of_the_object_is_used():
    head = MODELS.build(FCN)
    head.loss_by_feat = lambda logits, samples: dict(loss_own=logits.mean())
    assert list(head_losses(head, *batch(), {})) == ['loss_own']

"""The context-aware classifier: what it computes, around which heads, in which corners."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import ConfigDict
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import get_state_dict
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import nn

from mmseg_ctx.heads import ContextAwareClassifierHead
from mmseg_ctx.heads.cac import ContextAwareClassifier
from mmseg_ctx.ops import resize_labels
from tests.heads.contract import assert_finite, total
from tests.helpers import DATA, assert_relative, data_samples

pytestmark = pytest.mark.usefixtures('mmseg_scope')
CLASSES = 5
RELEASED = dict(proj='estimate_projector', apd_proj='oracle_projector')
PLAIN = dict(in_channels=12, channels=8, num_classes=CLASSES, norm_cfg=dict(type='BN'))
FCN = dict(PLAIN, type='FCNHead', num_convs=1, concat_input=False)
# Its features are its input.
BARE = dict(FCN, in_channels=8, num_convs=0, dropout_ratio=0)
ALL = {'loss_ce', 'loss_prior_ce', 'loss_oracle_ce', 'loss_kl'}


@MODELS.register_module()
class UsersHead(BaseDecodeHead):
    """A head of somebody's project: its own loss, arguments, parameter, and way to classify."""

    def __init__(self, margin=0.5, conv=None, classify=BaseDecodeHead.cls_seg, **kwargs):
        super().__init__(**kwargs)
        self.margin, self.classify = margin, classify
        self.reduce = nn.Conv2d(self.in_channels, self.channels, 1)
        self.scale = nn.Parameter(torch.ones(1))
        self.conv_seg = conv or self.conv_seg

    def forward(self, inputs):
        return self.classify(self, self.scale * self.reduce(self._transform_inputs(inputs)))

    def loss_by_feat(self, seg_logits, batch_data_samples):
        losses = super().loss_by_feat(seg_logits, batch_data_samples)
        losses['loss_margin'] = (self.margin - seg_logits).relu().mean()
        return losses


@MODELS.register_module()
class UsersClassHead(UsersHead):
    """A head that classifies in its own way."""

    def cls_seg(self, feat):
        return self.conv_seg(feat.relu())


def wrap(head=FCN, **arguments):
    return MODELS.build(dict(type='ContextAwareClassifierHead', head=head, **arguments))


def features(*channels):
    return [torch.randn(2, width, 9, 11) for width in channels]


def labels(size=(36, 44)):
    label = torch.randint(0, CLASSES, (2, *size))
    label[:, :4] = 255
    return label


def losses_of(head, inputs, label):
    return head.loss(inputs, data_samples(label), ConfigDict())


def classified(head, inputs):
    """Return the features that a wrapped head classifies, and its prior and refined logits."""
    with head.conv_seg.training_step() as steps:
        head(inputs)
    return steps[0][:3]


def seen_by_classifier(head, *inputs):
    """Return the features that a plain head's classifier sees in evaluation mode."""
    seen = []
    hook = head.conv_seg.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    head.eval()(*inputs)
    hook.remove()
    return seen[0]


def refined_by_equations(head, f, temperature=15):
    """Eqs. 4 to 6 of each image, in float64."""
    f = f.double()
    C = head.conv_seg.weight.double().flatten(1)
    p = torch.einsum('bdhw,nd->bnhw', f, C) + head.conv_seg.bias.double()[:, None, None]
    hidden, _, out = head.estimate_projector
    refined = []
    for p_i, f_i in zip(p.softmax(dim=1), f, strict=True):
        prototypes = torch.stack([(m * f_i).sum((1, 2)) / m.sum() for m in p_i])
        A = F.relu(torch.cat([prototypes, C], dim=1) @ hidden.weight.double().T)
        A = A @ out.weight.double().T + out.bias.double()
        cosines = torch.einsum('nd,dhw->nhw', F.normalize(A, dim=1), F.normalize(f_i, dim=0))
        refined.append(temperature * cosines)
    return torch.stack(refined)


def oracle_by_equations(head, f, label):
    """Eqs. 1 to 3 of an image with a label of its size; an absent class has its weights."""
    C = head.conv_seg.weight.flatten(1)
    classes = [f[:, label == k] for k in range(head.num_classes)]
    C_y = [each.mean(1) if each.shape[1] else C[k] for k, each in enumerate(classes)]  # Eq. 1
    hidden, _, out = head.oracle_projector
    A_y = F.relu(torch.cat([torch.stack(C_y), C], 1) @ hidden.weight.T) @ out.weight.T + out.bias
    return 15 * torch.einsum('nd,dhw->nhw', F.normalize(A_y, dim=1), F.normalize(f, dim=0))


def test_equals_the_released_code():
    """Outputs, losses and gradients of the authors' own code, recorded."""
    with np.load(DATA / 'cac_fcn.npz') as file:
        recorded = {name: torch.from_numpy(file[name]) for name in file}

    def parameters(prefix):
        """Return what is recorded of each parameter, under our names."""
        found = {}
        for name, value in recorded.items():
            if name.startswith(prefix):
                first, rest = name.removeprefix(prefix).split('.', 1)
                found[f'{RELEASED.get(first, first)}.{rest}'] = value
        return found

    loss = dict(type='CrossEntropyLoss', avg_non_ignore=True)
    head = wrap(dict(FCN, in_channels=24, channels=16, num_classes=6, loss_decode=loss)).eval()
    head.load_state_dict(parameters('w:'), strict=True)
    x, label = recorded['input0'].requires_grad_(), recorded['label'][:, 0].long()
    assert_relative(head([x]).detach(), recorded['refined_logits'], 1e-4)
    f, prior, refined = classified(head, [x])
    oracle = head.conv_seg.oracle_logits(f, resize_labels(label, f.shape[2:]), 'batch')
    actual = dict(feat=f, prior_logits=prior, refined_logits=refined, oracle_logits=oracle)
    losses = losses_of(head, [x], label)
    assert set(losses) == {*ALL, 'acc_seg'}
    for name in ALL:
        theirs = 'loss_refined' if name == 'loss_ce' else name.removesuffix('_ce')
        actual[theirs] = losses[name]
    actual['loss_total'] = total(losses)
    for name, value in actual.items():
        assert_relative(value.detach(), recorded[name], 1e-4)
    actual['loss_total'].backward()
    assert_relative(x.grad, recorded['input0_grad'], 1e-4)
    expected = parameters('g:')
    assert set(expected) == {name for name, _ in head.named_parameters()}
    for name, parameter in head.named_parameters():
        assert_relative(parameter.grad, expected[name], 1e-4)


def test_paper_text():
    """Eqs. 1 to 11 of each image, with oracle_scope='image' and soft_target_ratio=1.0."""
    loss_kl = dict(type='ClassEntropyKLLoss', soft_target_ratio=1.0)
    head = wrap(BARE, oracle_scope='image', loss_kl=loss_kl).double().eval()
    f = torch.randn(2, 8, 6, 7, dtype=torch.float64)
    label = torch.randint(0, CLASSES, (2, 6, 7))
    losses = losses_of(head, [f], label)
    refined = refined_by_equations(head, f)
    kl = oracle_ce = 0
    for f_i, y, p_p in zip(f, label, refined, strict=True):
        p_y = oracle_by_equations(head, f_i, y)
        oracle_ce += F.cross_entropy(p_y[None], y[None]) / 2
        soft, log_p = p_y.softmax(0), p_p.log_softmax(0)
        H = -(soft * soft.log()).sum(0)  # Eq. 9
        for M in (y == k for k in range(CLASSES)):  # Eq. 11
            kl -= (M * H * (soft * log_p).sum(0)).sum() / (M * H).sum() / CLASSES / 2
    torch.testing.assert_close(losses['loss_kl'], kl)
    torch.testing.assert_close(losses['loss_oracle_ce'], oracle_ce)
    torch.testing.assert_close(losses['loss_ce'], F.cross_entropy(refined, label))
    prior = F.conv2d(f, head.conv_seg.weight, head.conv_seg.bias)
    torch.testing.assert_close(losses['loss_prior_ce'], F.cross_entropy(prior, label))


BOTH = dict(PLAIN, in_channels=[6, 12], in_index=[0, 1])
# Heads of MMSegmentation's and of a user: config, and channels of the inputs. Ours are in
# ``tests/heads/test_every_head.py``.
HEADS = {
    'FCN': (FCN, (12,)),
    'ASPP': (dict(PLAIN, type='ASPPHead', dilations=(1, 2)), (12,)),
    'UPer': (dict(BOTH, type='UPerHead', pool_scales=(1, 3)), (6, 12)),
    'SegFormer': (dict(BOTH, type='SegformerHead'), (6, 12)),
    'Enc': (dict(BOTH, type='EncHead', num_codes=4), (6, 12)),
    'DA': (dict(PLAIN, type='DAHead', pam_channels=4), (12,)),
    "a user's": (dict(PLAIN, type='UsersHead', margin=0.3), (12,)),
}


def wrapped_and_plain(config):
    """Return a wrapped head, and the head alone with its weights."""
    wrapped, plain = wrap(config), MODELS.build(config)
    wrapped.load_state_dict(plain.state_dict(), strict=False)
    return wrapped, plain


@pytest.mark.parametrize('name', HEADS)
class TestAnyHead:
    def test_refines_what_its_classifier_sees(self, name):
        config, channels = HEADS[name]
        (wrapped, plain), inputs = wrapped_and_plain(config), features(*channels)
        expected = refined_by_equations(wrapped, seen_by_classifier(plain, inputs))
        actual = wrapped.eval()(inputs)
        actual = actual[0] if isinstance(actual, tuple) else actual
        assert_relative(actual.detach(), expected.detach(), 1e-4)
        metas = [dict(img_shape=(18, 22))] * 2
        predicted = wrapped.predict(inputs, metas, ConfigDict())
        resized = F.interpolate(actual, (18, 22), mode='bilinear')
        torch.testing.assert_close(predicted, resized)

    def test_losses(self, name):
        config, channels = HEADS[name]
        (wrapped, plain), inputs, label = wrapped_and_plain(config), features(*channels), labels()
        own = losses_of(plain, inputs, label)
        losses = losses_of(wrapped, inputs, label)
        assert set(losses) == {*own, 'loss_prior_ce', 'loss_oracle_ce', 'loss_kl'}
        total(losses).backward()
        total(own).backward()
        baseline = dict(plain.named_parameters())
        for name, parameter in wrapped.named_parameters():
            # What the head itself does not use stays without a gradient, and nothing else.
            if name not in baseline or baseline[name].grad is not None:
                assert torch.isfinite(parameter.grad).all(), name

    def test_attributes_and_names(self, name):
        wrapped, plain = wrapped_and_plain(HEADS[name][0])
        for name in (
            *('align_corners', 'num_classes', 'out_channels', 'threshold', 'ignore_index'),
            *('in_channels', 'channels', 'in_index', 'input_transform'),
        ):
            assert getattr(wrapped, name) == getattr(plain, name)
        assert isinstance(wrapped, BaseDecodeHead)
        assert isinstance(wrapped.head, type(plain))
        names = list(wrapped.state_dict())
        added = [name for name in names if name.startswith(tuple(RELEASED.values()))]
        assert [name for name in names if name not in added] == list(plain.state_dict())
        assert added == [
            f'{projector}.{name}'
            for projector in RELEASED.values()
            for name in ('0.weight', '2.weight', '2.bias')
        ]


def test_cascade_takes_the_previous_output():
    wrapped, plain = wrapped_and_plain(dict(PLAIN, type='OCRHead', ocr_channels=6))
    inputs, previous = features(12), torch.randn(2, CLASSES, 9, 11)
    expected = refined_by_equations(wrapped, seen_by_classifier(plain, inputs, previous))
    assert_relative(wrapped.eval()(inputs, previous).detach(), expected.detach(), 1e-4)
    samples = data_samples(labels())
    for losses in (
        wrapped.loss(inputs, previous, samples, ConfigDict()),
        wrapped.loss(inputs, previous, batch_data_samples=samples, train_cfg=None),
    ):
        assert set(losses) == {*ALL, 'acc_seg'}
    metas = [dict(img_shape=(18, 22))] * 2
    assert wrapped.predict(inputs, previous, metas, ConfigDict()).shape == (2, 5, 18, 22)


def test_checkpoint_of_the_head_alone_loads(tmp_path):
    """By MMEngine's functions, which are not PyTorch's."""
    plain, wrapped = MODELS.build(FCN), wrap()
    assert list(get_state_dict(wrapped)) == list(wrapped.state_dict())
    torch.save(dict(state_dict=get_state_dict(plain)), tmp_path / 'plain.pth')
    load_checkpoint(wrapped, str(tmp_path / 'plain.pth'))
    for name, value in plain.state_dict().items():
        assert torch.equal(wrapped.state_dict()[name], value), name


SEGMENTER = dict(type='SegmenterMaskTransformerHead', num_layers=1, num_heads=2, embed_dims=8)


def users(conv):
    return dict(PLAIN, type='UsersHead', conv=conv)


class TestRefuses:
    @pytest.mark.parametrize(
        ('head', 'reason'),
        [
            (dict(type='ResNet', depth=18), 'no BaseDecodeHead'),
            ({**SEGMENTER, **PLAIN}, 'its conv_seg must be a 1×1 Conv2d, got None'),
            (dict(PLAIN, type='UsersClassHead'), 'cls_seg of its own'),
            (dict(PLAIN, type='PIDHead'), '_stack_batch_gt'),
            (dict(type='ContextAwareClassifierHead', head=FCN), 'has a context-aware'),
            (dict(FCN, num_classes=2, out_channels=1, threshold=0.3), 'got 1 for 2'),
            (dict(FCN, num_classes=1, out_channels=1, threshold=0.3), 'got 1 for 1'),
            (dict(FCN, loss_decode=dict(type='OhemCrossEntropy')), 'its loss OhemCrossEntropy'),
            (users(nn.Conv2d(8, CLASSES, 3, padding=1)), r'a 1×1 Conv2d, got Conv2d\(.*3, 3'),
            (users(nn.Conv2d(8, CLASSES, 1, stride=2)), r'a 1×1 Conv2d, got .*stride=\(2, 2'),
            (users(nn.Sequential(nn.Conv2d(8, CLASSES, 1))), r'a 1×1 Conv2d, got Sequential\('),
            (users(nn.Conv2d(8, 7, 1)), 'an output for each .* got 7 for 5'),
        ],
    )
    def test_a_head(self, head, reason):
        with pytest.raises(TypeError, match=f'cannot wrap {head["type"]}: .*{reason}'):
            ContextAwareClassifierHead(head)

    @pytest.mark.parametrize(
        ('classify', 'reason'),
        [
            (lambda head, x: x[:, :CLASSES], 'it does not classify through cls_seg'),
            (lambda head, x: head.cls_seg(x) + head.cls_seg(-x), 'it must classify once.*2 times'),
        ],
        ids=['masks', 'twice'],
    )
    def test_heads_that_do_not_classify_once(self, classify, reason):
        head = wrap(dict(PLAIN, type='UsersHead', classify=classify))
        for _ in range(2):  # and not only once
            with pytest.raises(RuntimeError, match=f'cannot wrap UsersHead: {reason}'):
                losses_of(head, features(12), labels())

    def test_bad_arguments(self):
        with pytest.raises(TypeError, match=r'loss_kl must be a ClassEntropyKLLoss, got .*Cross'):
            wrap(loss_kl=dict(type='CrossEntropyLoss'))
        with pytest.raises(TypeError, match=r"no argument 'num_classes'.*head.head.num_classes"):
            wrap(num_classes=4)


def test_conv_seg_is_what_counts():
    head = wrap(dict(PLAIN, type='UsersHead', classify=lambda head, x: head.conv_seg(x)))
    assert set(losses_of(head, features(12), labels())) == {*ALL, 'acc_seg', 'loss_margin'}


CE = dict(type='CrossEntropyLoss')


class TestLosses:
    @pytest.mark.parametrize(
        'changes',
        [
            dict(align_corners=True, loss_decode=dict(CE, class_weight=[1.0, 2.0, 0.5, 1.0, 3.0])),
            dict(sampler=dict(type='OHEMPixelSampler', thresh=0.9, min_kept=50)),
            dict(loss_decode=dict(CE, use_sigmoid=True)),
            dict(
                loss_decode=[
                    dict(CE, loss_name='monitored', avg_non_ignore=True),
                    dict(type='DiceLoss', loss_weight=2.0),
                    dict(type='LovaszLoss', reduction='none', loss_name='lovasz'),
                ]
            ),
        ],
        ids=['weights', 'OHEM', 'sigmoid', 'mixed'],
    )
    def test_are_mmsegmentations_own_of_each_classifier(self, changes):
        head, inputs, label = wrap(dict(FCN, **changes)).eval(), features(12), labels()
        if 'align_corners' in changes:
            # Upstream MMSegmentation looks for the class weight of an ignored pixel, and stops.
            label = label.clamp(max=CLASSES - 1)
        losses = losses_of(head, inputs, label)
        samples = data_samples(label)
        f, prior, refined = classified(head, inputs)
        oracle = head.conv_seg.oracle_logits(f, resize_labels(label, f.shape[2:]), 'batch')
        own = BaseDecodeHead.loss_by_feat(head.head, refined, samples)
        for name, value in own.items():
            torch.testing.assert_close(losses.pop(name), value)
        for kind, logits in (('prior', prior), ('oracle', oracle)):
            for name, value in BaseDecodeHead.loss_by_feat(head.head, logits, samples).items():
                if name == 'acc_seg':
                    continue
                loss = name.startswith('loss_')
                ours = f'loss_{kind}_{name[5:]}' if loss else f'{kind}_{name}'
                torch.testing.assert_close(losses.pop(ours), value)
        assert list(losses) == ['loss_kl']

    def test_of_an_auxiliary_map_are_its_own(self):
        other = dict(CE, loss_weight=7.0, loss_name='loss_other')
        head = wrap(dict(PLAIN, type='DDRHead', loss_decode=[CE, other]))
        inputs = [torch.randn(2, 6, 9, 11), torch.randn(2, 12, 9, 11)]
        label = labels().clamp(max=CLASSES - 1)  # it ignores no pixel
        losses = losses_of(head.train(), inputs, label)
        added = {'loss_prior_ce', 'loss_oracle_ce', 'loss_kl'}
        assert set(losses) == {'loss_context', 'loss_spatial', 'acc_seg', *added}


# What each switch of Tables 2 to 5 is to change, and the losses that are left.
SWITCHES = [
    (dict(loss_prior_weight=0, loss_oracle_weight=0, loss_kl=None), {'loss_ce'}),
    (dict(loss_oracle_weight=0, loss_kl=None), {'loss_ce', 'loss_prior_ce'}),
    (dict(loss_kl=dict(type='ClassEntropyKLLoss', loss_weight=0)), ALL - {'loss_kl'}),
    (dict(loss_oracle_weight=0), ALL - {'loss_oracle_ce'}),
    (dict(oracle_scope='image', projector_channels=3), ALL),
    (dict(prior_logits='cosine', context_logits='dot'), ALL),
    (dict(projector_input='none'), ALL),
    (dict(projector_input='none', residual='classifier'), ALL),
]


class TestSwitches:
    @pytest.mark.parametrize(('switch', 'names'), SWITCHES)
    def test_each_trains_all_that_wants_a_gradient(self, switch, names):
        head = wrap(**switch)
        losses = losses_of(head, features(12), labels())
        assert {name for name in losses if 'loss' in name} == names
        total(losses).backward()
        for name, parameter in head.named_parameters():
            assert (parameter.grad is not None) == parameter.requires_grad, name

    @settings(deadline=None)
    @given(
        projector_input=st.sampled_from(['concat', 'sum', 'prototype', 'none']),
        residual=st.sampled_from(['none', 'classifier']),
        context_logits=st.sampled_from(['dot', 'cosine']),
        prior_logits=st.sampled_from(['dot', 'cosine']),
        bias=st.booleans(),
    )
    def test_equals_tables_4_and_5(self, bias, **switches):
        conv = nn.Conv2d(8, CLASSES, 1, bias=bias)
        layer = ContextAwareClassifier(conv, temperature=4.0, **switches).double()
        f = torch.randn(2, 8, 9, 11, dtype=torch.float64)
        C = layer.weight.flatten(1)

        def logits(A, way):
            if way == 'cosine':
                A, x = F.normalize(A, dim=-1), F.normalize(f, dim=1)
                return 4 * torch.einsum('bnd,bdhw->bnhw', A, x)
            return torch.einsum('bnd,bdhw->bnhw', A, f)

        p = logits(C.expand(2, -1, -1), switches['prior_logits'])
        if bias and switches['prior_logits'] == 'dot':
            p = p + layer.bias[:, None, None]
        weights = p.softmax(dim=1)
        prototypes = torch.einsum('bnhw,bdhw->bnd', weights, f)
        prototypes = prototypes / weights.sum((2, 3))[:, :, None]
        A = {
            'concat': torch.cat([prototypes, C.expand(2, -1, -1)], dim=2),
            'sum': prototypes + C,
        }.get(switches['projector_input'], prototypes)
        A = layer.estimate_projector(A) + (C if switches['residual'] == 'classifier' else 0)
        torch.testing.assert_close(layer(f), logits(A, switches['context_logits']))


class TestCorners:
    def test_absent_class_keeps_the_classifier(self):
        head = wrap(BARE)
        (f,) = features(8)
        label = torch.randint(0, 3, (2, 9, 11))  # classes 3 and 4 are absent
        oracle = head.conv_seg.oracle_logits(f, label, 'image')
        expected = [oracle_by_equations(head, *each) for each in zip(f, label, strict=True)]
        torch.testing.assert_close(oracle, torch.stack(expected))

    @pytest.mark.parametrize('ignore_index', [0, -100])
    def test_ignore_index(self, ignore_index):
        inputs, label = features(12), labels()
        head = wrap(dict(FCN, ignore_index=ignore_index)).eval()
        label = label.masked_fill(label == ignore_index, 255)
        expected = wrap().eval()
        expected.load_state_dict(head.state_dict())
        actual = losses_of(head, inputs, label.masked_fill(label == 255, ignore_index))
        torch.testing.assert_close(actual, losses_of(expected, inputs, label))

    def test_float16_autocast_where_the_prior_would_overflow(self):
        head = wrap(dict(BARE, in_channels=512, channels=512))
        nn.init.normal_(head.conv_seg.weight)
        x = (1e4 * torch.randn(2, 512, 9, 11)).requires_grad_()
        with torch.autocast('cpu', torch.float16):
            losses = losses_of(head, [x], labels())
            total(losses).backward()
            assert torch.isfinite(head.eval()([x])).all()
        assert_finite(losses, {name: each.grad for name, each in head.named_parameters()})
        assert torch.isfinite(x.grad).all()

"""The context-aware classifier: what it computes, around which heads, in which corners."""

import copy
from pathlib import Path

import mmseg
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config, ConfigDict
from mmengine.model import ExponentialMovingAverage, revert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import get_state_dict
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.models.decode_heads import FCNHead, san_head
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import CrossEntropyLoss, accuracy
from mmseg.registry import MODELS
from PIL import Image
from torch import nn

from mmseg_ctx.heads import ContextAwareClassifierHead, cac
from mmseg_ctx.heads.cac import ContextAwareClassifier
from mmseg_ctx.ops import resize_labels
from tests.helpers import DATA, assert_relative, data_samples

CLASSES = 5
PROJECTORS = ('estimate_projector', 'oracle_projector')
PARITY_NAMES = dict(zip(('proj', 'apd_proj'), PROJECTORS, strict=True))
BN = dict(type='BN')
FCN = dict(
    type='FCNHead',
    in_channels=12,
    channels=8,
    num_convs=1,
    concat_input=False,
    num_classes=CLASSES,
    norm_cfg=BN,
)
# Its features are its input.
BARE = dict(FCN, in_channels=8, num_convs=0, dropout_ratio=0)


@MODELS.register_module()
class UsersHead(BaseDecodeHead):
    """A head of somebody's project: its own loss entry, its own argument."""

    def __init__(self, margin=0.5, **kwargs):
        super().__init__(**kwargs)
        self.margin = margin
        self.reduce = nn.Conv2d(self.in_channels, self.channels, 1)

    def forward(self, inputs):
        return self.cls_seg(self.reduce(self._transform_inputs(inputs)))

    def loss_by_feat(self, seg_logits, batch_data_samples):
        losses = super().loss_by_feat(seg_logits, batch_data_samples)
        losses['loss_margin'] = (self.margin - seg_logits).relu().mean()
        return losses


@MODELS.register_module()
class UsersPlainHead(FCNHead):
    """A head whose classifier has no bias."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv_seg = nn.Conv2d(self.channels, self.num_classes, 1, bias=False)


@MODELS.register_module()
class UsersConvHead(FCNHead):
    """A head whose classifier is another convolution."""

    def __init__(self, conv, **kwargs):
        super().__init__(**kwargs)
        self.conv_seg = conv


@MODELS.register_module()
class UsersMaskHead(BaseDecodeHead):
    """A mask classifier that has a conv_seg, and leaves it alone."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.queries = nn.Parameter(torch.randn(self.num_classes, self.in_channels))

    def forward(self, inputs):
        return torch.einsum('nd,bdhw->bnhw', self.queries, self._transform_inputs(inputs))


@MODELS.register_module()
class UsersTwiceHead(UsersHead):
    """A head that classifies twice."""

    def forward(self, inputs):
        x = self.reduce(self._transform_inputs(inputs))
        return self.cls_seg(x) + self.cls_seg(x.flip(3))


@MODELS.register_module()
class UsersBypassHead(FCNHead):
    """A head whose forward does without the cls_seg that its base would call."""

    def forward(self, inputs):
        return self.conv_seg(self._forward_feature(inputs))


@MODELS.register_module()
class UsersUncalledHead(UsersMaskHead):
    """A mask classifier with a method that would classify through cls_seg, and is not called."""

    def classify(self, x):
        return self.cls_seg(x)


def classify(head, x):
    return deeper(head, x)


def deeper(head, x):
    return head.cls_seg(x)


@MODELS.register_module()
class UsersHelperHead(UsersHead):
    """A head that classifies in a function of its module."""

    def forward(self, inputs):
        return classify(self, self.reduce(self._transform_inputs(inputs)))


def counted(function):
    def call(*args):
        return function(*args)

    return call


@MODELS.register_module()
class UsersDecoratedHead(UsersHead):
    """A head whose forward is hidden by a decorator, and calls that of its base."""

    @counted
    def forward(self, inputs):
        return self.cls_seg(self.reduce(self._transform_inputs(inputs)))


@MODELS.register_module()
class UsersSuperHead(FCNHead):
    """A head that leaves classifying to its base."""

    def forward(self, inputs):
        return super().forward(inputs).clone()


@pytest.fixture(autouse=True)
def _scope_and_seed():
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def wrap(head=FCN, **arguments):
    return MODELS.build(dict(type='ContextAwareClassifierHead', head=head, **arguments))


def features(*channels, batch=2, size=(9, 11)):
    return [torch.randn(batch, width, *size) for width in channels]


def labels(batch=2, size=(36, 44), classes=CLASSES):
    label = torch.randint(0, classes, (batch, *size))
    label[:, :4] = 255
    return label


def losses_of(head, inputs, label):
    return head.loss(inputs, data_samples(label), ConfigDict())


def total(losses):
    return sum(value for name, value in losses.items() if 'loss' in name)


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


class TestReleasedCode:
    """Outputs, losses and gradients of the authors' own code, recorded."""

    @pytest.fixture(scope='class')
    def recorded(self):
        with np.load(DATA / 'cac_fcn.npz') as file:
            return {name: torch.from_numpy(file[name]) for name in file}

    @pytest.fixture
    def head(self, recorded):
        fcn = dict(
            FCN,
            in_channels=24,
            channels=16,
            num_classes=6,
            loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
        )
        head = wrap(fcn).eval()
        weights = self.ours(recorded, 'w:')
        head.load_state_dict(weights, strict=True)
        return head

    def ours(self, recorded, prefix):
        """Return what is recorded of each parameter, under our names."""
        found = {}
        for name, value in recorded.items():
            if name.startswith(prefix):
                first, rest = name.removeprefix(prefix).split('.', 1)
                found[f'{PARITY_NAMES.get(first, first)}.{rest}'] = value
        return found

    def test_outputs(self, recorded, head):
        inputs = [recorded['input0']]
        assert_relative(head(inputs).detach(), recorded['refined_logits'], 1e-4)
        f, prior, refined = classified(head, inputs)
        label = torch.nn.functional.interpolate(recorded['label'].float(), f.shape[2:])[:, 0].long()
        oracle = head.conv_seg.oracle_logits(f, label, 'batch')
        for actual, name in (
            (f, 'feat'),
            (prior, 'prior_logits'),
            (refined, 'refined_logits'),
            (oracle, 'oracle_logits'),
        ):
            assert_relative(actual.detach(), recorded[name], 1e-4)

    def test_losses_and_gradients(self, recorded, head):
        x = recorded['input0'].clone().requires_grad_()
        losses = losses_of(head, [x], recorded['label'][:, 0].long())
        names = dict(
            loss_ce='loss_refined',
            loss_prior_ce='loss_prior',
            loss_oracle_ce='loss_oracle',
            loss_kl='loss_kl',
        )
        assert set(losses) == {*names, 'acc_seg'}
        for ours, theirs in names.items():
            assert_relative(losses[ours].detach(), recorded[theirs], 1e-4)
        loss = total(losses)
        assert_relative(loss.detach(), recorded['loss_total'], 1e-4)
        loss.backward()
        assert_relative(x.grad, recorded['input0_grad'], 1e-4)
        expected = self.ours(recorded, 'g:')
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
    C = head.conv_seg.weight.flatten(1)
    refined = refined_by_equations(head, f)
    hidden, _, out = head.oracle_projector
    kl = oracle_ce = 0
    for f_i, y, p_p in zip(f, label, refined, strict=True):
        masks = torch.stack([y == k for k in range(CLASSES)]).double()
        C_y = torch.stack([(m * f_i).sum((1, 2)) / m.sum() for m in masks])  # Eq. 1
        A_y = F.relu(torch.cat([C_y, C], 1) @ hidden.weight.T) @ out.weight.T + out.bias  # Eq. 2
        p_y = 15 * torch.einsum(
            'nd,dhw->nhw', F.normalize(A_y, dim=1), F.normalize(f_i, dim=0)
        )  # Eq. 3
        oracle_ce += F.cross_entropy(p_y[None], y[None]) / 2
        soft, log_p = p_y.softmax(0), p_p.log_softmax(0)
        H = -(soft * soft.log()).sum(0)  # Eq. 9
        for M in masks:  # Eq. 11
            kl -= (M * H * (soft * log_p).sum(0)).sum() / (M * H).sum() / CLASSES / 2
    torch.testing.assert_close(losses['loss_kl'], kl)
    torch.testing.assert_close(losses['loss_oracle_ce'], oracle_ce)
    torch.testing.assert_close(losses['loss_ce'], F.cross_entropy(refined, label))
    prior = F.conv2d(f, head.conv_seg.weight, head.conv_seg.bias)
    torch.testing.assert_close(losses['loss_prior_ce'], F.cross_entropy(prior, label))


HEADS = {
    'FCN': (FCN, (12,)),
    'PSP': (dict(FCN, type='PSPHead', pool_scales=(1, 3)), (12,)),
    'ASPP': (dict(FCN, type='ASPPHead', dilations=(1, 2)), (12,)),
    'DeepLabV3+': (
        dict(
            FCN,
            type='DepthwiseSeparableASPPHead',
            dilations=(1, 2),
            c1_in_channels=6,
            c1_channels=4,
        ),
        (6, 12),
    ),
    'UPer': (
        dict(FCN, type='UPerHead', in_channels=[6, 12], in_index=[0, 1], pool_scales=(1, 3)),
        (6, 12),
    ),
    'SegFormer': (dict(FCN, type='SegformerHead', in_channels=[6, 12], in_index=[0, 1]), (6, 12)),
    'DM': (dict(FCN, type='DMHead'), (12,)),
    'Enc': (
        dict(FCN, type='EncHead', in_channels=[6, 12], in_index=[0, 1], num_codes=4),
        (6, 12),
    ),
    'DA': (dict(FCN, type='DAHead', pam_channels=4), (12,)),
    'DMNet': (dict(FCN, type='DynamicMultiScaleHead'), (12,)),
    'CaC-Net': (dict(FCN, type='ContextAdaptiveConvHead'), (12,)),
    'ACNet': (
        dict(
            FCN,
            type='AdaptiveContextHead',
            in_channels=[6, 12],
            in_index=[0, 1],
            block_channels=(10, 8),
        ),
        (6, 12),
    ),
    'CTNet': (dict(FCN, type='ContextTandemHead', key_channels=4, kernel_sizes=(3, 5)), (12,)),
    "a user's": (dict(FCN, type='UsersHead', margin=0.3), (12,)),
    "a user's class": (dict(FCN, type=UsersHead), (12,)),
    'in a helper': (dict(FCN, type='UsersHelperHead'), (12,)),
    'decorated': (dict(FCN, type='UsersDecoratedHead'), (12,)),
    'in the base': (dict(FCN, type='UsersSuperHead', num_convs=1, concat_input=False), (12,)),
    'with a scope': (dict(FCN, type='mmseg.UsersHead', _scope_='mmseg'), (12,)),
}
for _config, _ in HEADS.values():
    if _config['type'] not in ('FCNHead', 'DepthwiseSeparableFCNHead', 'UsersSuperHead'):
        for _name in ('num_convs', 'concat_input'):
            _config.pop(_name)


@pytest.fixture(params=HEADS)
def case(request):
    """Return a wrapped head, the same one not wrapped, and inputs."""
    config, channels = HEADS[request.param]
    wrapped, plain = wrap(config), MODELS.build(config)
    wrapped.load_state_dict(plain.state_dict(), strict=False)
    return wrapped, plain, features(*channels)


class TestAnyHead:
    def test_refines_what_its_classifier_sees(self, case):
        wrapped, plain, inputs = case
        expected = refined_by_equations(wrapped, seen_by_classifier(plain, inputs))
        actual = wrapped.eval()(inputs)
        actual = actual[0] if isinstance(actual, tuple) else actual
        assert_relative(actual.detach(), expected.detach(), 1e-4)
        metas = [dict(img_shape=(18, 22))] * 2
        predicted = wrapped.predict(inputs, metas, ConfigDict())
        resized = F.interpolate(actual, (18, 22), mode='bilinear')
        torch.testing.assert_close(predicted, resized)

    def test_losses(self, case):
        wrapped, plain, inputs = case
        label = labels()
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

    def test_attributes_and_names(self, case):
        wrapped, plain, _ = case
        for name in (
            *('align_corners', 'num_classes', 'out_channels', 'threshold', 'ignore_index'),
            *('in_channels', 'channels', 'in_index', 'input_transform'),
        ):
            assert getattr(wrapped, name) == getattr(plain, name)
        assert isinstance(wrapped, BaseDecodeHead)
        assert isinstance(wrapped.head, type(plain))
        names = list(wrapped.state_dict())
        added = [name for name in names if name.startswith(PROJECTORS)]
        assert [name for name in names if name not in added] == list(plain.state_dict())
        assert added == [
            f'{projector}.{name}'
            for projector in PROJECTORS
            for name in ('0.weight', '2.weight', '2.bias')
        ]


OCR = dict(
    **{name: FCN[name] for name in ('in_channels', 'channels', 'num_classes', 'norm_cfg')},
    type='OCRHead',
    ocr_channels=6,
)


class TestCascade:
    def test_takes_the_previous_output(self):
        wrapped, plain = wrap(OCR), MODELS.build(OCR)
        wrapped.load_state_dict(plain.state_dict(), strict=False)
        inputs, previous = features(12), torch.randn(2, CLASSES, 9, 11)
        expected = refined_by_equations(wrapped, seen_by_classifier(plain, inputs, previous))
        assert_relative(wrapped.eval()(inputs, previous).detach(), expected.detach(), 1e-4)
        losses = wrapped.loss(inputs, previous, data_samples(labels()), ConfigDict())
        assert set(losses) == {
            *('loss_ce', 'acc_seg', 'loss_prior_ce', 'loss_oracle_ce', 'loss_kl')
        }
        by_name = wrapped.loss(
            inputs, previous, batch_data_samples=data_samples(labels()), train_cfg=None
        )
        assert set(by_name) == set(losses)
        metas = [dict(img_shape=(18, 22))] * 2
        assert wrapped.predict(inputs, previous, metas, ConfigDict()).shape == (2, 5, 18, 22)

    def test_segmentor(self):
        model = MODELS.build(
            dict(
                type='CascadeEncoderDecoder',
                num_stages=2,
                backbone=dict(
                    type='ResNet',
                    depth=18,
                    base_channels=4,
                    stem_channels=4,
                    num_stages=1,
                    out_indices=(0,),
                    strides=(1,),
                    dilations=(1,),
                ),
                decode_head=[
                    dict(FCN, in_channels=4, in_index=0),
                    dict(
                        type='ContextAwareClassifierHead',
                        head=dict(OCR, in_channels=4, in_index=0),
                    ),
                ],
                test_cfg=ConfigDict(mode='slide', crop_size=(32, 32), stride=(16, 16)),
            )
        )
        images, samples = torch.randn(2, 3, 48, 40), data_samples(labels(size=(48, 40)))
        losses = model.loss(images, samples)
        assert 'decode_1.loss_kl' in losses
        total(losses).backward()
        assert [result.pred_sem_seg.shape for result in model.predict(images, samples)] == [
            (48, 40)
        ] * 2


# Whole configs of heads that stand between the backbone and the loss in another way.
SEGMENTER = dict(
    **dict(type='SegmenterMaskTransformerHead', in_channels=12, channels=8, num_classes=CLASSES),
    **dict(num_layers=1, num_heads=2, embed_dims=8),
)


def side_adapter():
    """Return MMSegmentation's own config of its ``SideAdapterCLIPHead``, without matching."""
    path = Path(mmseg.__file__).parent / '.mim/configs/_base_/models/san_vit-b16.py'
    return dict(Config.fromfile(path).model.decode_head, num_classes=CLASSES, train_cfg=None)


class TestRefuses:
    @pytest.mark.parametrize(
        ('head', 'reason'),
        [
            (dict(type='MaskFormerHead'), 'no BaseDecodeHead'),
            (dict(type='Mask2FormerHead'), 'no BaseDecodeHead'),
            (SEGMENTER, 'its conv_seg must be a 1×1 Conv2d, got None'),
            (dict(type='VPDDepthHead'), '_stack_batch_gt of its own'),
            (dict(type='PointHead'), 'cls_seg of its own'),
            (dict(type='PIDHead', in_channels=12, channels=8, num_classes=5), '_stack_batch_gt'),
            (
                dict(FCN, loss_decode=dict(type='OhemCrossEntropy')),
                'its loss OhemCrossEntropy takes',
            ),
            (dict(type='ContextAwareClassifierHead', head=FCN), 'has a context-aware'),
            (dict(type='ResNet', depth=18), 'no BaseDecodeHead'),
            (dict(FCN, num_classes=2, out_channels=1, threshold=0.3), 'one output leaves no'),
        ],
        ids=lambda value: value['type'] if isinstance(value, dict) else '',
    )
    def test_what_a_class_and_its_parts_show(self, head, reason):
        with pytest.raises(TypeError, match=f'cannot wrap {head["type"]}: .*{reason}'):
            ContextAwareClassifierHead(head)

    @pytest.mark.parametrize(
        ('conv', 'reason'),
        [
            (nn.Conv2d(8, CLASSES, 3, padding=1), r'a 1×1 Conv2d, got Conv2d\(.*3, 3'),
            (nn.Conv2d(8, CLASSES, 1, stride=2), r'a 1×1 Conv2d, got Conv2d\(.*stride=\(2, 2'),
            (nn.Conv2d(8, CLASSES, 1, padding=1), r'a 1×1 Conv2d, got Conv2d\(.*padding=\(1, 1'),
            (nn.Conv2d(10, CLASSES, 1, groups=5), r'a 1×1 Conv2d, got Conv2d\(.*groups=5'),
            (nn.Sequential(nn.Conv2d(8, CLASSES, 1)), r'a 1×1 Conv2d, got Sequential\('),
            (nn.Conv2d(8, 7, 1), 'its conv_seg has 7 outputs for 5 classes'),
        ],
        ids=['3×3', 'stride', 'padding', 'groups', 'several', 'outputs'],
    )
    def test_another_convolution(self, conv, reason):
        with pytest.raises(TypeError, match=f'cannot wrap UsersConvHead: .*{reason}') as error:
            wrap(dict(FCN, type='UsersConvHead', conv=conv))
        assert '\n' not in str(error.value)

    def test_side_adapter_network(self, monkeypatch):
        monkeypatch.setattr(san_head, 'point_sample', object)  # MMCV without operations has none
        error = pytest.raises(TypeError, match='cannot wrap SideAdapterCLIPHead: its conv_seg must')
        with error, torch.device('meta'):
            ContextAwareClassifierHead(side_adapter())

    @pytest.mark.parametrize(
        ('kind', 'reason'),
        [
            ('UsersMaskHead', 'it does not classify through cls_seg'),
            ('UsersBypassHead', None),  # conv_seg is what counts
            ('UsersUncalledHead', 'it does not classify through cls_seg'),
            ('UsersTwiceHead', 'it must classify once.*2 times'),
        ],
    )
    def test_heads_that_do_not_classify_once(self, kind, reason):
        head = wrap(dict(type=kind, in_channels=12, channels=8, num_classes=CLASSES))
        for _ in range(2):  # and not only once
            if reason is None:
                assert 'loss_kl' in losses_of(head, features(12), labels())
                continue
            with pytest.raises(RuntimeError, match=f'cannot wrap {kind}: {reason}'):
                losses_of(head, features(12), labels())

    def test_kernel_update_head(self):
        stage = dict(FCN, type='FCNHead')
        head = dict(
            type='IterativeDecodeHead',
            num_stages=0,
            kernel_update_head=[],
            kernel_generate_head=stage,
        )
        with pytest.raises(TypeError, match='IterativeDecodeHead: its conv_seg must be a 1×1'):
            ContextAwareClassifierHead(head)

    @pytest.mark.parametrize(
        ('arguments', 'error', 'words'),
        [
            (dict(head='FCNHead'), TypeError, "head must be a dict with a 'type', got 'FCNHead'"),
            (dict(head=dict(type='NoSuchHead')), ValueError, "head.*'NoSuchHead'"),
            (dict(head=dict(type=3)), ValueError, 'head must be of a type.*got 3'),
            (dict(loss_kl='kl'), TypeError, "loss_kl must be a dict or None, got 'kl'"),
            (dict(loss_kl={}), TypeError, "loss_kl must be a dict with a 'type', got {}"),
            (dict(loss_kl=dict(type='KL')), KeyError, 'KL is not in'),
            (
                dict(loss_kl=dict(type='CrossEntropyLoss')),
                TypeError,
                "loss_kl must be a ClassEntropyKLLoss, got 'CrossEntropyLoss'",
            ),
            (dict(num_classes=4), TypeError, "no argument 'num_classes'.*head.head.num_classes"),
            (dict(temperature=0), ValueError, 'temperature.*got 0'),
            (dict(temperature='hot'), TypeError, "temperature.*got 'hot'"),
            (dict(projector_channels=0), ValueError, 'projector_channels.*got 0'),
            (dict(oracle_scope='pixel'), ValueError, "oracle_scope.*'image'.*got 'pixel'"),
            (dict(loss_prior_weight=-1), ValueError, 'loss_prior_weight.*got -1'),
            (dict(loss_oracle_weight=None), TypeError, 'loss_oracle_weight.*got None'),
            (dict(prior_logits='sine'), ValueError, "prior_logits.*'cosine'.*got 'sine'"),
            (dict(context_logits=1), ValueError, "context_logits.*'dot'.*got 1"),
            (dict(projector_input='all'), ValueError, "projector_input.*'sum'.*got 'all'"),
            (dict(residual=True), ValueError, "residual.*'classifier'.*got True"),
        ],
    )
    def test_bad_arguments(self, arguments, error, words):
        with pytest.raises(error, match=words):
            ContextAwareClassifierHead(**{'head': FCN, **arguments})

    @pytest.mark.parametrize('wrong', [CLASSES, -1, 254])
    def test_labels_that_are_no_class(self, wrong):
        label = labels()
        label[1, 20, 20] = wrong
        with pytest.raises(ValueError, match=rf'\[0, 5\) or the ignore index 255, got {wrong}$'):
            losses_of(wrap(), features(12), label)


class TestCheckpoints:
    @staticmethod
    def model(head):
        return MODELS.build(
            dict(
                type='EncoderDecoder',
                backbone=dict(
                    type='ResNet', depth=18, base_channels=4, stem_channels=4, out_indices=(3,)
                ),
                decode_head=head,
                test_cfg=dict(mode='whole'),
            )
        )

    @pytest.fixture
    def models(self):
        fcn = dict(FCN, in_channels=32, in_index=0)
        return self.model(fcn), self.model(dict(type='ContextAwareClassifierHead', head=fcn))

    def test_baseline_loads_as_it_is(self, models, tmp_path):
        baseline, model = models
        projectors = {
            name
            for name in model.state_dict()
            if name.startswith('decode_head.')
            and (name.removeprefix('decode_head.').startswith(PROJECTORS))
        }
        result = model.load_state_dict(baseline.state_dict(), strict=False)
        assert (set(result.missing_keys), result.unexpected_keys) == (projectors, [])
        # MMEngine has functions of its own for the same.
        assert list(get_state_dict(model)) == list(model.state_dict())
        torch.save(dict(state_dict=get_state_dict(baseline)), tmp_path / 'baseline.pth')
        _, fresh = models
        load_checkpoint(fresh, str(tmp_path / 'baseline.pth'))
        state = fresh.state_dict()
        for name, value in baseline.state_dict().items():
            assert torch.equal(state[name], value), name
        with pytest.raises(RuntimeError) as error:
            load_checkpoint(fresh, str(tmp_path / 'baseline.pth'), strict=True)
        assert 'unexpected' not in str(error.value)
        missing = str(error.value).split('missing keys in source state_dict: ')[1]
        assert set(missing.strip().split(', ')) == projectors

    def test_moving_average(self, models):
        _, model = models
        average = ExponentialMovingAverage(model, momentum=0.5, update_buffers=True)
        images = torch.randn(2, 3, 32, 32)
        assert torch.equal(average.eval()(images), model.eval()(images))
        with torch.no_grad():
            model.decode_head.conv_seg.weight += 1
        for _ in range(2):  # the first update copies
            average.update_parameters(model)
        copied = average.module.decode_head
        assert copied.conv_seg.weight is not model.decode_head.conv_seg.weight
        assert torch.equal(copied.conv_seg.weight, model.decode_head.conv_seg.weight)

    def test_synchronized_batch_norm(self):
        sync = dict(FCN, norm_cfg=dict(type='SyncBN'))
        head = revert_sync_batchnorm(wrap(sync)).eval()
        assert head(features(12)).shape == (2, CLASSES, 9, 11)
        converted = nn.SyncBatchNorm.convert_sync_batchnorm(wrap())
        assert isinstance(converted.convs[0].bn, nn.SyncBatchNorm)

    def test_initialisation(self, tmp_path):
        head = wrap()
        head.init_weights()
        assert head.conv_seg.weight.std() < 0.02  # MMSegmentation's, 0.01
        assert torch.equal(head.conv_seg.bias, torch.zeros(CLASSES))
        torch.save(dict(state_dict=MODELS.build(FCN).state_dict()), tmp_path / 'head.pth')
        pretrained = dict(type='Pretrained', checkpoint=str(tmp_path / 'head.pth'))
        head = wrap(dict(FCN, init_cfg=pretrained))
        head.init_weights()
        expected = torch.load(tmp_path / 'head.pth')['state_dict']['conv_seg.weight']
        assert torch.equal(head.conv_seg.weight, expected)


class TestLosses:
    def test_without_gradients_and_in_evaluation_mode(self):
        head, inputs, label = wrap().eval(), features(12), labels()
        expected = losses_of(head, inputs, label)
        with torch.no_grad():
            actual = losses_of(head, inputs, label)
        assert not any(value.requires_grad for value in actual.values())
        torch.testing.assert_close(actual, {name: each.detach() for name, each in expected.items()})

    def test_are_the_heads_own_on_refined_logits(self):
        head, inputs, label = wrap().eval(), features(12), labels()
        losses = losses_of(head, inputs, label)
        full = F.interpolate(head(inputs), label.shape[1:], mode='bilinear')
        assert_relative(losses['loss_ce'], CrossEntropyLoss()(full, label, ignore_index=255), 1e-5)
        torch.testing.assert_close(losses['acc_seg'], accuracy(full, label, ignore_index=255))

    @pytest.mark.parametrize(
        'changes',
        [
            dict(align_corners=True, loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.4)),
            dict(loss_decode=dict(type='CrossEntropyLoss', class_weight=[1.0, 2.0, 0.5, 1.0, 3.0])),
            dict(
                loss_decode=[
                    dict(type='CrossEntropyLoss', avg_non_ignore=True),
                    dict(type='CrossEntropyLoss', loss_weight=0.5),
                    dict(type='CrossEntropyLoss', loss_name='monitored'),
                ]
            ),
            dict(sampler=dict(type='OHEMPixelSampler', thresh=0.9, min_kept=50)),
            dict(sampler=dict(type='OHEMPixelSampler', min_kept=50)),
            dict(loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True)),
            dict(
                loss_decode=[
                    dict(type='CrossEntropyLoss'),
                    dict(type='DiceLoss', loss_weight=2.0),
                    dict(type='LovaszLoss', reduction='none', loss_name='lovasz'),
                ]
            ),
        ],
        ids=['weight', 'class weights', 'list', 'OHEM', 'top OHEM', 'sigmoid', 'mixed'],
    )
    def test_are_mmsegmentations_own_of_each_classifier(self, changes):
        head, inputs, label = wrap(dict(FCN, **changes)).eval(), features(12), labels()
        if 'class_weight' in head.loss_decode.__dict__ and head.loss_decode.class_weight:
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

    @pytest.mark.parametrize('kind', ['DDRHead'])
    def test_of_an_auxiliary_map_are_its_own(self, kind):
        config = dict(type=kind, in_channels=12, channels=8, num_classes=CLASSES, norm_cfg=BN)
        other = dict(type='CrossEntropyLoss', loss_weight=7.0, loss_name='loss_other')
        head = wrap(dict(config, loss_decode=[dict(type='CrossEntropyLoss'), other]))
        inputs = [torch.randn(2, 6, 9, 11), torch.randn(2, 12, 9, 11)]
        label = labels().clamp(max=CLASSES - 1)  # it ignores no pixel
        losses = losses_of(head.train(), inputs, label)
        assert set(losses) == {
            *('loss_context', 'loss_spatial', 'acc_seg'),
            *('loss_prior_ce', 'loss_oracle_ce', 'loss_kl'),
        }

    def test_dropout_reaches_only_the_prior(self):
        head = wrap(dict(BARE, dropout_ratio=0.9)).train()
        (x,) = features(8)
        f, prior, _ = classified(head, [x])
        assert f is x
        assert not torch.equal(prior, head.conv_seg(x))


# What each switch of Tables 2 to 5 is to change, and the losses that are left.
SWITCHES = [
    (dict(loss_prior_weight=0, loss_oracle_weight=0, loss_kl=None), {'loss_ce'}),
    (dict(loss_oracle_weight=0, loss_kl=None), {'loss_ce', 'loss_prior_ce'}),
    (dict(loss_kl=None), {'loss_ce', 'loss_prior_ce', 'loss_oracle_ce'}),
    (
        dict(loss_kl=dict(type='ClassEntropyKLLoss', loss_weight=0)),
        {'loss_ce', 'loss_prior_ce', 'loss_oracle_ce'},
    ),
    (dict(loss_oracle_weight=0), {'loss_ce', 'loss_prior_ce', 'loss_kl'}),
    *(
        (switch, {'loss_ce', 'loss_prior_ce', 'loss_oracle_ce', 'loss_kl'})
        for switch in (
            dict(oracle_scope='image'),
            dict(prior_logits='cosine'),
            dict(context_logits='dot'),
            dict(prior_logits='cosine', context_logits='dot'),
            dict(temperature=5.0),
            dict(projector_channels=3),
            dict(projector_input='sum'),
            dict(projector_input='prototype'),
            dict(projector_input='none'),
            dict(projector_input='none', residual='classifier'),
            dict(residual='classifier'),
        )
    ),
]


class TestSwitches:
    @pytest.mark.parametrize(('switch', 'names'), SWITCHES, ids=[str(case[0]) for case in SWITCHES])
    def test_each_trains_all_that_wants_a_gradient(self, switch, names):
        head = wrap(**switch)
        losses = losses_of(head, features(12), labels())
        assert {name for name in losses if 'loss' in name} == names
        total(losses).backward()
        for name, parameter in head.named_parameters():
            assert (parameter.grad is not None) == parameter.requires_grad, name

    def test_weights(self):
        inputs, label = features(12), labels()
        head = wrap().eval()
        losses = losses_of(head, inputs, label)
        further = head.context_losses
        further.loss_prior_weight, further.loss_oracle_weight = 0.5, 2.0
        further.loss_kl.loss_weight = 10.0
        weighted = losses_of(head, inputs, label)
        for name, factor in (
            *(('loss_ce', 1), ('loss_prior_ce', 0.5), ('loss_oracle_ce', 2), ('loss_kl', 10)),
        ):
            torch.testing.assert_close(weighted[name], factor * losses[name])

    @pytest.mark.parametrize(
        ('switch', 'unused', 'left'),
        [
            (dict(loss_oracle_weight=0, loss_kl=None), 'oracle_logits', 'loss_prior_ce'),
            (dict(loss_prior_weight=0, loss_oracle_weight=0), 'losses_of_logits', 'loss_kl'),
        ],
    )
    def test_weight_of_zero_skips_the_work(self, switch, unused, left, monkeypatch):
        head = wrap(**switch)
        place = ContextAwareClassifier if unused == 'oracle_logits' else cac
        monkeypatch.setattr(place, unused, None)  # a call would fail
        assert set(losses_of(head, features(12), labels())) == {'loss_ce', 'acc_seg', left}

    @pytest.mark.parametrize('prior_logits', ['dot', 'cosine'])
    @pytest.mark.parametrize('context_logits', ['dot', 'cosine'])
    @pytest.mark.parametrize('residual', ['none', 'classifier'])
    @pytest.mark.parametrize('projector_input', ['concat', 'sum', 'prototype', 'none'])
    def test_equals_tables_4_and_5(self, projector_input, residual, context_logits, prior_logits):
        head = wrap(
            BARE,
            temperature=4.0,
            projector_input=projector_input,
            residual=residual,
            context_logits=context_logits,
            prior_logits=prior_logits,
        ).double()
        (f,) = features(8)
        f = f.double()
        C = head.conv_seg.weight.flatten(1)

        def logits(A, way):
            if way == 'cosine':
                A, x = F.normalize(A, dim=-1), F.normalize(f, dim=1)
                return 4 * torch.einsum('bnd,bdhw->bnhw', A, x)
            return torch.einsum('bnd,bdhw->bnhw', A, f)

        p = logits(C.expand(2, -1, -1), prior_logits)
        if prior_logits == 'dot':
            p = p + head.conv_seg.bias[:, None, None]
        weights = p.softmax(dim=1)
        prototypes = torch.einsum('bnhw,bdhw->bnd', weights, f)
        prototypes = prototypes / weights.sum((2, 3))[:, :, None]
        A = {
            'concat': torch.cat([prototypes, C.expand(2, -1, -1)], dim=2),
            'sum': prototypes + C,
        }.get(projector_input, prototypes)
        A = head.estimate_projector(A) + (C if residual == 'classifier' else 0)
        torch.testing.assert_close(head([f]), logits(A, context_logits))
        assert (projector_input == 'none') == isinstance(head.estimate_projector, nn.Identity)


class TestCorners:
    @staticmethod
    def train(head, inputs, label):
        """Check that a training step is finite and reaches every parameter; return the losses."""
        losses = losses_of(head, inputs, label)
        total(losses).backward()
        for name, value in losses.items():
            assert torch.isfinite(value).all(), name
        for name, parameter in head.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
        return losses

    @pytest.mark.parametrize('scope', ['batch', 'image'])
    @pytest.mark.parametrize('avg_non_ignore', [False, True])
    def test_all_ignored(self, scope, avg_non_ignore):
        loss_decode = dict(type='CrossEntropyLoss', avg_non_ignore=avg_non_ignore)
        head = wrap(dict(FCN, loss_decode=loss_decode), oracle_scope=scope)
        losses = self.train(head, features(12), torch.full((2, 36, 44), 255))
        assert total(losses) == 0
        assert all(torch.equal(each.grad, 0 * each) for each in head.parameters())

    @pytest.mark.parametrize('scope', ['batch', 'image'])
    @pytest.mark.parametrize(
        'label',
        [
            torch.stack([torch.zeros(36, 44).long(), torch.full((36, 44), 255)]),
            torch.full((2, 36, 44), 3),
            labels(classes=2),
            labels(size=(37, 53)),
            labels(size=(9, 11)),
            labels(size=(5, 6)),
            labels(size=(8, 200)),
        ],
        ids=['an image ignored', 'one class', 'absent', 'odd', 'same', 'smaller', 'wide'],
    )
    def test_labels(self, label, scope):
        self.train(wrap(oracle_scope=scope), features(12), label)

    def test_absent_class_keeps_the_classifier(self):
        head = wrap(BARE)
        (f,) = features(8)
        label = torch.randint(0, 3, (2, 9, 11))  # classes 3 and 4 are absent
        oracle = head.conv_seg.oracle_logits(f, label, 'batch')
        C = head.conv_seg.weight.flatten(1)
        A = head.oracle_projector(torch.cat([C, C], dim=1))
        expected = 15 * torch.einsum('nd,bdhw->bnhw', F.normalize(A, dim=1), F.normalize(f, dim=1))
        torch.testing.assert_close(oracle[:, 3:], expected[:, 3:])

    @pytest.mark.parametrize('ignore_index', [0, 4, 254, -100])
    def test_ignore_index(self, ignore_index):
        inputs, label = features(12), labels()
        head = wrap(dict(FCN, ignore_index=ignore_index)).eval()
        label = label.masked_fill(label == ignore_index, 255)
        expected = wrap().eval()
        expected.load_state_dict(head.state_dict())
        actual = losses_of(head, inputs, label.masked_fill(label == 255, ignore_index))
        torch.testing.assert_close(actual, losses_of(expected, inputs, label))

    def test_reduce_zero_label(self, tmp_path):
        raw = np.random.default_rng(0).integers(0, CLASSES + 1, (36, 44), dtype=np.uint8)
        Image.fromarray(raw).save(tmp_path / 'label.png')
        loaded = LoadAnnotations(reduce_zero_label=True, imdecode_backend='pillow')(
            dict(seg_map_path=str(tmp_path / 'label.png'), reduce_zero_label=True, seg_fields=[])
        )['gt_seg_map']
        assert set(np.unique(loaded)) == {*range(CLASSES), 255}
        head, inputs = wrap().eval(), features(12, batch=1)
        label = torch.from_numpy(raw).long()[None] - 1
        expected = losses_of(head, inputs, label.masked_fill(label < 0, 255))
        # Labels come as PackSegInputs makes them, and as uint8, as tests of others may have them.
        for tensor in (torch.from_numpy(loaded.astype(np.int64)), torch.from_numpy(loaded)):
            torch.testing.assert_close(losses_of(head, inputs, tensor[None]), expected)

    @pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
    def test_autocast_with_large_features(self, dtype):
        head = wrap(BARE)
        (x,) = features(8)
        x = (1e4 * x).requires_grad_()
        label = labels()
        with torch.autocast('cpu', dtype):
            losses = self.train(head, [x], label)
            refined = head([x])
        assert torch.isfinite(x.grad).all()
        wide = copy.deepcopy(head).double()
        expected = losses_of(wide, [x.double()], label)
        assert refined.dtype == torch.float32
        assert all(value.dtype == torch.float32 for value in losses.values())
        assert_relative(
            losses['loss_oracle_ce'].detach(), expected['loss_oracle_ce'].detach(), 1e-5
        )
        assert_relative(losses['loss_ce'].detach(), expected['loss_ce'].detach(), 1e-3)

    @pytest.mark.parametrize('deviation', [0.1, 1.0])
    def test_float16_autocast_where_the_prior_would_overflow(self, deviation):
        head = wrap(dict(BARE, in_channels=512, channels=512))
        nn.init.normal_(head.conv_seg.weight, std=deviation)
        x = (1e4 * torch.randn(2, 512, 9, 11)).requires_grad_()
        with torch.autocast('cpu', torch.float16):
            self.train(head, [x], labels())
            assert torch.isfinite(head.eval()([x])).all()
        assert torch.isfinite(x.grad).all()

    def test_autocast_copies_the_features_once(self):
        head = wrap(dict(BARE, dropout_ratio=0))
        (x,) = features(8)
        x = x.bfloat16().requires_grad_()
        saved = []
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda t: saved.append(t) or t, lambda t: t
        )
        with torch.autocast('cpu', torch.bfloat16), hooks:
            losses_of(head, [x], labels())
        of_the_features = [each for each in saved if each.numel() == x.numel()]
        assert len(of_the_features) > 2
        assert len({each.data_ptr() for each in of_the_features}) == 1

    def test_zero_features(self):
        head = wrap(BARE)
        (x,) = features(8)
        x[:, :, 2:4] = 0
        x.requires_grad_()
        self.train(head, [x], labels())
        assert torch.isfinite(x.grad).all()
        assert x.grad.abs().max() < 10
        self.train(wrap(BARE), [torch.zeros(2, 8, 9, 11)], labels())
        self.train(wrap(BARE, context_logits='dot'), [torch.zeros(2, 8, 9, 11)], labels())


@pytest.mark.parametrize('prior_logits', ['dot', 'cosine'])
def test_classifier_without_bias(prior_logits):
    head = wrap(dict(FCN, type='UsersPlainHead'), prior_logits=prior_logits)
    total(losses_of(head, features(12), labels())).backward()
    assert head.conv_seg.weight.grad is not None

"""The context-aware classifier in use: processes, test loops, memory and cost."""

import copy
import operator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace as Namespace

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch.utils.checkpoint import checkpoint

from mmseg_ctx.analysis.benchmark import peak_memory
from mmseg_ctx.hooks import EvaluatedClassifierHook
from tests import small_models
from tests.heads.contract import total
from tests.heads.test_cac import BARE, oracle_by_equations, wrap
from tests.helpers import assert_relative, data_samples
from tests.small_models import build_segmentor

pytestmark = pytest.mark.usefixtures('mmseg_scope')
FCN = dict(BARE, num_convs=1, norm_cfg=None)


def make_batch():
    label = torch.randint(0, 5, (2, 24, 28))
    label[1, :3] = 255
    return torch.randn(2, 8, 6, 7, requires_grad=True), label


class TestEvaluatedClassifier:
    @torch.no_grad()
    def test_equals_the_equations(self):
        model = build_segmentor(dict(type='ContextAwareClassifierHead', head=small_models.FCN))
        head, runner, seen = model.decode_head, Namespace(model=model), []
        head.conv_seg.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        label = torch.randint(14, (2, 40, 64))
        batch = dict(inputs=list(255 * torch.rand(2, 3, 40, 64)), data_samples=data_samples(label))

        def predict():
            results = model.test_step(copy.deepcopy(batch))
            return torch.stack([result.seg_logits.data for result in results])

        refined = predict()
        (f,) = seen
        small = F.interpolate(label[:, None].float(), f.shape[2:])[:, 0]
        oracles = [oracle_by_equations(head, *each) for each in zip(f, small, strict=True)]
        prior = F.conv2d(f, head.conv_seg.weight, head.conv_seg.bias)
        for classifier, logits in (('prior', prior), ('oracle', torch.stack(oracles))):
            hook = EvaluatedClassifierHook(classifier)
            hook.before_test_iter(runner, 0, batch)
            assert_relative(predict(), F.interpolate(logits, (40, 64), mode='bilinear'), 1e-4)
            hook.after_test_iter(runner, 0)
            assert torch.equal(predict(), refined)

    def test_needs_a_wrapped_head_and_labels(self):
        hook, batch = EvaluatedClassifierHook(), dict(data_samples=[SegDataSample()])
        with pytest.raises(ValueError, match='needs labels, got images without gt_sem_seg'):
            hook.before_test_iter(Namespace(model=wrap(FCN)), 0, batch)
        plain = Namespace(model=MODELS.build(FCN))
        with pytest.raises(TypeError, match='needs a model with a ContextAwareClassifierHead'):
            EvaluatedClassifierHook('prior').before_test_iter(plain, 0, batch)
        with pytest.raises(ValueError, match=r"classifier must be one of .*got 'refined'"):
            EvaluatedClassifierHook('refined')

    def test_label_of_a_resized_and_padded_image(self):
        head = wrap(BARE).eval()
        f = torch.randn(1, 8, 8, 8)
        label = torch.randint(0, 5, (1, 20, 24))
        original = label.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
        meta = dict(img_shape=(20, 24), pad_shape=(32, 32))
        padded = F.pad(label, (0, 8, 0, 12), value=255)
        small = F.interpolate(padded[None].float(), (8, 8))[0].long()
        expected = head.conv_seg.oracle_logits(f, small.masked_fill(small == 255, -1), 'image')
        head.conv_seg.evaluate('oracle', [original])
        actual = head.predict([f], [meta], ConfigDict(mode='whole'))
        torch.testing.assert_close(actual, F.interpolate(expected, (32, 32), mode='bilinear'))


def test_memory_of_a_step():
    fcn = dict(FCN, in_channels=64, channels=64, num_convs=0, num_classes=50)
    x = torch.randn(2, 64, 32, 32, requires_grad=True)
    samples = data_samples(torch.randint(0, 50, (2, 256, 256)))

    def step(head):
        return lambda: total(head.loss([x], samples, ConfigDict())).backward()

    wrapped, plain = (peak_memory(step(head)) for head in (wrap(fcn), MODELS.build(fcn)))
    assert wrapped <= 1.3 * plain


class Step(torch.nn.Module):
    """A training step as compilers see it: called through ``forward``."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, x, label):
        return total(self.head.loss([x], data_samples(label), ConfigDict()))


@pytest.mark.parametrize('reentrant', [False, True, None])
@pytest.mark.parametrize('place', ['head', 'head.convs', 'head.conv_seg', 'head.head'])
def test_activation_checkpointing_trains_as_without_or_is_refused(place, reentrant):
    """Of a user, or, with None, MMEngine's."""
    x, label = make_batch()
    model = Step(wrap(FCN))
    expected = torch.autograd.grad(model(x, label), list(model.parameters()))
    if reentrant is None:
        turn_on_activation_checkpointing(model, [place])
    else:
        module = operator.attrgetter(place)(model)
        forward = module.forward
        module.forward = lambda *args: checkpoint(forward, *args, use_reentrant=reentrant)
    if reentrant is not False and place in ('head.conv_seg', 'head.head'):
        with pytest.raises(RuntimeError, match=r'without gradients.*use_reentrant=False'):
            model(x, label)
    else:
        model(x, label).backward()
        actual = [parameter.grad for parameter in model.parameters()]
        torch.testing.assert_close(actual, list(expected))


def test_threads_do_not_meet():
    """Predictions of several threads, of which some ask for the oracle or the prior."""
    head = wrap(FCN).eval()
    inputs = [torch.randn(1, 8, 6, 7) for _ in range(4)]
    metas = [dict(img_shape=(24, 28))]

    @torch.no_grad()
    def predict(step):
        index, classifier = step % 4, ('refined', 'oracle', 'prior')[step % 3]
        head.conv_seg.evaluate(classifier, [torch.full((1, 24, 28), index)])
        logits = head.predict([inputs[index]], metas, ConfigDict(mode='whole'))
        head.conv_seg.evaluate('refined')
        return logits

    expected = [predict(step) for step in range(12)]
    with ThreadPoolExecutor(4) as executor:
        found = list(executor.map(predict, range(240)))
    for step, logits in enumerate(found):
        assert torch.equal(logits, expected[step % 12])


@pytest.mark.slow
def test_a_step_compiled_for_any_size():
    model = Step(wrap(FCN))
    compiled = torch.compile(model, dynamic=True, fullgraph=True, backend='aot_eager')
    for height in (6, 9):
        x, label = torch.randn(2, 8, height, 7), torch.randint(0, 5, (2, 4 * height, 28))
        torch.testing.assert_close(compiled(x, label), model(x, label))


@pytest.mark.parametrize('ratio', [-1, 0, 0.3])
def test_any_dropout_that_mmsegmentation_accepts(ratio):
    head, (x, label) = wrap(dict(FCN, dropout_ratio=ratio)), make_batch()
    assert (head.conv_seg.dropout is None) == (ratio <= 0)
    assert 'loss_kl' in head.loss([x], data_samples(label), {})

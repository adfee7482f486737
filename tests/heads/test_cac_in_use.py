"""The context-aware classifier in use: processes, test loops, memory and cost."""

import itertools
import operator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace as Namespace

import pytest
import torch
import torch.nn.functional as F
from mmengine import Config
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from mmseg.models.decode_heads import FCNHead
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch.utils.checkpoint import checkpoint

from mmseg_ctx.analysis.benchmark import peak_memory
from mmseg_ctx.hooks import EvaluatedClassifierHook
from tests.heads.models import total
from tests.helpers import ROOT, assert_relative, data_samples

RUNS = itertools.count()
FCN = dict(
    type='FCNHead',
    in_channels=8,
    channels=8,
    num_convs=1,
    concat_input=False,
    num_classes=5,
    dropout_ratio=0,
)


@pytest.fixture(autouse=True)
def _scope_and_seed():
    torch.manual_seed(0)
    init_default_scope('mmseg')


def wrap(head=FCN, **arguments):
    return MODELS.build(dict(type='ContextAwareClassifierHead', head=head, **arguments))


def make_batch():
    label = torch.randint(0, 5, (2, 24, 28))
    label[1, :3] = 255
    return torch.randn(2, 8, 6, 7, requires_grad=True), label


SCENES = 'configs/cac/cac-fcn_r18-small_1xb16-600_context-scenes-128x128.py'


class TestEvaluatedClassifier:
    """Evaluating with another classifier, through MMEngine's own loops."""

    @staticmethod
    def runner(folder, path=SCENES, hook=None):
        """Return a runner of two scenes, its model with fixed random weights."""
        config = Config.fromfile(ROOT / path)
        for loader in (config.test_dataloader, config.val_dataloader):
            loader.update(batch_size=2, num_workers=0, persistent_workers=False)
            loader.dataset.num_images = 2
        config.default_hooks.pop('visualization')
        if hook:
            config.default_hooks.classifier = hook
        config.update(work_dir=str(folder), experiment_name=f'run{next(RUNS)}')
        runner = Runner.from_cfg(config)
        torch.manual_seed(0)
        for parameter in runner.model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.2)
        return runner

    def evaluate(self, loop, *arguments):
        """Return the metrics, and of each image the classifier's features and the result."""
        runner = self.runner(*arguments)
        model, features, results = runner.model, [], []
        model.test_cfg.keep_logits = True
        model.decode_head.conv_seg.register_forward_pre_hook(
            lambda _, inputs: features.extend(inputs[0])
        )
        predict = model.predict
        model.predict = lambda *inputs: [results.append(each) or each for each in predict(*inputs)]
        return getattr(runner, loop)(), model.decode_head, list(zip(features, results, strict=True))

    @staticmethod
    def oracle_by_equations(head, f, label):
        """Eqs. 1 to 3 of one image, at the label's size."""
        C = head.conv_seg.weight.flatten(1)
        small = F.interpolate(label[None].float(), f.shape[1:])[0, 0]
        classes = [f[:, small == k] for k in range(head.num_classes)]
        C_y = [each.mean(1) if each.shape[1] else C[k] for k, each in enumerate(classes)]
        A = head.oracle_projector(torch.cat([torch.stack(C_y), C], dim=1))
        p_y = 15 * torch.einsum('nd,dhw->nhw', F.normalize(A, dim=1), F.normalize(f, dim=0))
        return F.interpolate(p_y[None], label.shape[1:], mode='bilinear')[0]

    def test_one_switch(self, tmp_path):
        oracle_hook = dict(type='EvaluatedClassifierHook')
        prior_hook = dict(type='EvaluatedClassifierHook', classifier='prior')
        refined, _, before = self.evaluate('test', tmp_path)
        oracle, head, images = self.evaluate('test', tmp_path, SCENES, oracle_hook)
        prior, _, others = self.evaluate('val', tmp_path, SCENES, prior_hook)
        assert set(refined) == set(oracle) == set(prior)
        assert refined['mIoU'] != oracle['mIoU'] != prior['mIoU']
        for (f, result), (_, other), (_, plain) in zip(images, others, before, strict=True):
            assert 'evaluated_classifier' not in plain.metainfo
            p_y = self.oracle_by_equations(head, f, result.gt_sem_seg.data)
            assert_relative(result.seg_logits.data, p_y.detach(), 1e-4)
            p = F.conv2d(f[None], head.conv_seg.weight, head.conv_seg.bias)
            p = F.interpolate(p, p_y.shape[1:], mode='bilinear')[0]
            assert_relative(other.seg_logits.data, p.detach(), 1e-4)

    def test_needs_a_wrapped_head_and_labels(self, tmp_path):
        hook = EvaluatedClassifierHook()
        with pytest.raises(ValueError, match='needs labels, got images without gt_sem_seg'):
            hook.before_test_iter(Namespace(model=wrap()), 0, dict(data_samples=[SegDataSample()]))
        path = 'configs/fcn/fcn_r18-small_1xb16-600_context-scenes-128x128.py'
        runner = self.runner(tmp_path, path, dict(type='EvaluatedClassifierHook'))
        with pytest.raises(TypeError, match='needs a model with a ContextAwareClassifierHead'):
            runner.test()
        with pytest.raises(ValueError, match=r"classifier must be one of .*got 'refined'"):
            EvaluatedClassifierHook('refined')

    def test_label_of_a_resized_and_padded_image(self):
        head = wrap(dict(FCN, num_convs=0)).eval()
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
    """A training step as data parallelism and compilers see it: called through ``forward``."""

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
    model = Step(wrap())
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
    head = wrap().eval()
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


def test_a_step_compiled_for_any_size():
    model = Step(wrap())
    compiled = torch.compile(model, dynamic=True, fullgraph=True, backend='aot_eager')
    for height in (6, 9):
        x, label = torch.randn(2, 8, height, 7), torch.randint(0, 5, (2, 4 * height, 28))
        torch.testing.assert_close(compiled(x, label), model(x, label))


def test_replicas_of_data_parallelism():
    """The steps of ``nn.parallel.replicate``, which itself needs CUDA devices."""
    model = Step(wrap(dict(FCN, type='ParameterHead')))
    modules = list(model.modules())
    replicas = [module._replicate_for_data_parallel() for module in modules]
    for module, replica in zip(modules, replicas, strict=True):
        for name, child in module._modules.items():
            setattr(replica, name, child and replicas[modules.index(child)])
        for name, parameter in module._parameters.items():
            setattr(replica, name, None if parameter is None else 1 * parameter)
    x, label = make_batch()
    loss = replicas[0](x, label)
    torch.testing.assert_close(loss, model(x, label))
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@MODELS.register_module(force=True)
class ParameterHead(FCNHead):
    """A head that has a parameter itself, not only its layers."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.scale = torch.nn.Parameter(torch.ones(1))

    def _forward_feature(self, inputs):
        return self.scale * super()._forward_feature(inputs)


@pytest.mark.parametrize('ratio', [-1, 0, 0.3])
def test_any_dropout_that_mmsegmentation_accepts(ratio):
    head, (x, label) = wrap(dict(FCN, dropout_ratio=ratio)), make_batch()
    assert (head.conv_seg.dropout is None) == (ratio <= 0)
    assert 'loss_kl' in head.loss([x], data_samples(label), {})

"""From the network's logits to losses and gradients: memory-efficient losses beside the stock."""

from functools import partial

import torch
import torch.nn.functional as F
from mmseg.models.utils import resize

from mmseg_ctx.analysis.benchmark import Case, Comparison, mib
from mmseg_ctx.analysis.models import head_config
from mmseg_ctx.analysis.suites.steps import STRIDE, labelled_samples, training_step
from mmseg_ctx.losses import use_memory_efficient_losses
from mmseg_ctx.utils.models import build

STOCK, OURS, COMPILED = 'MMSegmentation', 'memory-efficient', 'compiled'
LOSSES = {
    'softmax cross-entropy': None,
    'of hard pixels (OHEM, ACNet)': dict(type='OHEMPixelSampler', thresh=0.7, min_kept=100000),
}


def losses(setting, batch=2):
    """Losses of a decode head, and the gradients of its small logits."""
    for size in setting.sizes or (64,):
        for classes in (19, 150):
            for name, sampler in LOSSES.items():
                step = partial(_step, setting, batch, size, classes, sampler)
                cases = [Case(case, partial(step, case)) for case in (STOCK, OURS)]
                if sampler is None:
                    note = 'compiled has no acc_seg.'
                    cases.append(Case(COMPILED, partial(step, COMPILED), note=note))
                shape = [batch, classes, size, size]
                title = f'Losses: {name}, {shape}, labels {STRIDE * size}²'
                facts = (f'Small logits have {mib(4 * batch * classes * size**2)} MiB.',)
                yield Comparison(title, cases, (STOCK,), facts)


def _step(setting, batch, size, classes, sampler, case):
    samples = labelled_samples(batch, STRIDE * size, classes, device=setting.device)
    label = torch.cat([sample.gt_sem_seg.data for sample in samples])  # [B, H, W]
    arguments = dict(num_convs=0, concat_input=False, sampler=sampler)
    head = build(head_config('FCNHead', 3, 3, classes, **arguments), setting.device)
    if case == OURS:
        use_memory_efficient_losses(head)

    def step(logits):
        if case == COMPILED:
            return dict(loss=_cross_entropy(logits, label))
        return head.loss_by_feat(logits, samples)

    return training_step(step, head, torch.randn(batch, classes, size, size), setting=setting)


@torch.compile
def _cross_entropy(logits, label):
    full = resize(logits, label.shape[1:], mode='bilinear', align_corners=False, warning=False)
    return F.cross_entropy(full, label, ignore_index=255)

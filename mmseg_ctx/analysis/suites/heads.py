"""The decode heads, side by side."""

from functools import partial

from mmseg_ctx.analysis.benchmark import Case, Comparison
from mmseg_ctx.analysis.complexity import count
from mmseg_ctx.analysis.models import (
    CLASSES,
    COMPARED,
    HEAD_NOTES,
    backbone_features,
    head_config,
    previous_output,
)
from mmseg_ctx.analysis.suites.steps import STRIDE, forward_step, labelled_samples, training_step
from mmseg_ctx.utils.models import build


def heads(setting, channels=2048, width=512):
    """The heads of the plugin and MMSegmentation's on the same features, one comparison a size."""
    configs = {name: head_config(name, channels, width) for name in COMPARED}
    comparisons = []
    for size in setting.sizes or (64,):
        features = partial(backbone_features, image=STRIDE * size, channels=channels)
        shape = f'[1, {channels}, {size}, {size}]'
        labels = f'labels {STRIDE * size}×{STRIDE * size}'
        for title, case in (
            (f'forward, {shape}', _forward_case),
            (f'losses and gradients, two times {shape}, {labels}', _training_case),
        ):
            cases = tuple(case(name, configs[name], features, setting) for name in COMPARED)
            against = ('FCNHead', 'DMHead', 'APCHead')
            comparisons.append(Comparison(f'Heads: {title}', cases, against))
    return comparisons


def _forward_case(name, config, features, setting):
    def prepare():
        inputs = features(device=setting.device)
        head = build(config, setting.device)
        return forward_step(head, inputs, *previous_output(config, inputs), setting=setting)

    inputs = features(device='meta')
    complexity = count(build(config), inputs, *previous_output(config, inputs))
    return Case(name, prepare, complexity=complexity, note=HEAD_NOTES.get(name, ''))


def _training_case(name, config, features, setting):
    def prepare():
        # Two images: a batch norm on a globally pooled map needs them.
        inputs = features(batch=2, device=setting.device)
        head = build(config, setting.device)
        samples = labelled_samples(2, STRIDE * inputs[-1].size(-1), CLASSES, device=setting.device)

        def losses(*arguments):
            return head.loss(*arguments, samples, train_cfg=None)

        inputs = (inputs, *previous_output(config, inputs))
        return training_step(losses, head, *inputs, setting=setting)

    return Case(name, prepare, note=HEAD_NOTES.get(name, ''))

"""The decode heads, side by side."""

from functools import partial

from mmseg_ctx.analysis.benchmark import Case, Comparison
from mmseg_ctx.analysis.complexity import count
from mmseg_ctx.analysis.complexity_tables import HEADS_FACTS
from mmseg_ctx.analysis.heads import (
    CLASSES,
    COMPARED,
    backbone_features,
    head_config,
    previous_output,
)
from mmseg_ctx.analysis.suites.steps import STRIDE, forward_step, labelled_samples, training_step
from mmseg_ctx.utils.models import build


def heads(setting, channels=2048, width=512):
    """The heads of the plugin and MMSegmentation's on the same features, one comparison a size."""
    comparisons = []
    for size in setting.sizes or (64,):
        features = partial(backbone_features, image=STRIDE * size, channels=channels)
        shape = f'[1, {channels}, {size}, {size}]'
        configs = {name: head_config(name, channels, width) for name in COMPARED}
        forward = tuple(
            Case(
                name,
                partial(_head_forward, config, features, setting),
                complexity=_head_complexity(config, features),
            )
            for name, config in configs.items()
        )
        training = tuple(
            Case(name, partial(_head_training, config, features, setting))
            for name, config in configs.items()
        )
        against = ('FCNHead', 'DMHead', 'APCHead')
        title = f'losses and gradients, two times {shape}, labels {STRIDE * size}×{STRIDE * size}'
        comparisons += [
            Comparison(f'Heads: forward, {shape}', forward, against, HEADS_FACTS),
            Comparison(f'Heads: {title}', training, against, HEADS_FACTS),
        ]
    return comparisons


def _head_complexity(config, features):
    inputs = features(device='meta')
    return count(build(config), inputs, *previous_output(config, inputs))


def _head_forward(config, features, setting):
    inputs = features(device=setting.device)
    head = build(config, setting.device)
    return forward_step(head, inputs, *previous_output(config, inputs), setting=setting)


def _head_training(config, features, setting):
    # Two images, since a batch norm on a globally pooled map needs them.
    inputs = features(batch=2, device=setting.device)
    head = build(config, setting.device)
    size = STRIDE * inputs[-1].size(-1)
    samples = labelled_samples(2, size, CLASSES, device=setting.device)

    def losses(*arguments):
        return head.loss(*arguments, samples, train_cfg=None)

    inputs = (inputs, *previous_output(config, inputs))
    return training_step(losses, head, *inputs, setting=setting)

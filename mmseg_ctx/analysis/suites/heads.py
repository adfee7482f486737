"""The decode heads, side by side."""

from functools import partial

from mmseg_ctx.analysis.benchmark import Case, Comparison
from mmseg_ctx.analysis.models import CLASSES, COMPARED, HEAD_NOTES, head_config, head_inputs
from mmseg_ctx.analysis.suites.steps import STRIDE, forward_case, labelled_samples, training_step
from mmseg_ctx.utils.models import build


def heads(setting, channels=2048, width=512):
    """The heads of the plugin and MMSegmentation's on the same features, one comparison a size."""
    for size in setting.sizes or (64,):
        shape = f'[1, {channels}, {size}, {size}]'
        labels = f'labels {STRIDE * size}×{STRIDE * size}'
        for title, case in (
            (f'forward, {shape}', _forward_case),
            (f'losses and gradients, two times {shape}, {labels}', _training_case),
        ):
            cases = []
            for name in COMPARED:
                config = head_config(name, channels, width)
                inputs = partial(head_inputs, config, image=STRIDE * size, channels=channels)
                cases.append(case(config, inputs, setting, note=HEAD_NOTES.get(name, '')))
            yield Comparison(f'Heads: {title}', cases, ('FCNHead', 'DMHead', 'APCHead'))


def _forward_case(config, inputs, setting, note):
    return forward_case(
        config['type'],
        partial(build, config),
        lambda device: inputs(device=device),
        setting,
        note=note,
    )


def _training_case(config, inputs, setting, note):
    def prepare():
        # Two images: a batch norm on a globally pooled map needs them.
        features, *previous = inputs(batch=2, device=setting.device)
        head = build(config, setting.device)
        size = STRIDE * features[-1].size(-1)
        samples = labelled_samples(2, size, CLASSES, device=setting.device)

        def losses(*maps):
            return head.loss(list(maps[:4]), *maps[4:], samples, train_cfg=None)

        return training_step(losses, head, *features, *previous, setting=setting)

    return Case(config['type'], prepare, note=note)

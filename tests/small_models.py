"""Small segmentors with each of the heads, for tests of what works on whole models."""

import torch
from mmengine.config import Config, ConfigDict
from mmseg.models.utils import Upsample, resize
from mmseg.registry import MODELS
from torch import nn

from mmseg_ctx.datasets.scenes import CLASSES, PALETTE
from mmseg_ctx.utils import methods

HEAD = dict(in_channels=16, in_index=2, channels=8, num_classes=14, norm_cfg=dict(type='BN'))
FCN = dict(type='FCNHead', **HEAD)
# The heads in ``methods.yml``, by title. An entry there gives a head the whole contract of
# ``tests/heads/test_every_head.py``, alone and inside the context-aware classifier.
METHODS = {
    method.title: {**HEAD, 'type': method.head, **method.tests.get('arguments', {})}
    for method in methods.HEAD_METHODS.values()
}


def with_cac(head):
    """Return the config of a head inside the context-aware classifier."""
    cac = methods.METHODS['cac']
    return dict(type=cac.head, head=head, **cac.tests['arguments'])


HEADS = {
    **METHODS,
    'CAC': with_cac(dict(type='PSPHead', **HEAD)),
    'CAC on DMNet': with_cac({**METHODS['DMNet'], 'filter_sizes': (3,)}),
}


@MODELS.register_module(force=True)
class SmallBackbone(nn.Module):
    """Three maps, at 1/4, 1/8 and 1/8 of the image's side, the last joined with one at 1/16.

    Joined as in MMSegmentation's HRNet: upsampled by 2, then resized to the size of the other.
    """

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 5, stride=4, padding=2)
        self.down = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.last = nn.Conv2d(8, 16, 3, padding=1)
        self.coarse = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.upsample = Upsample(scale_factor=2, mode='bilinear', align_corners=False)

    def forward(self, image):
        """Return the maps, finest first."""
        stem = self.stem(image).relu()
        down = self.down(stem).relu()
        coarse = self.upsample(self.coarse(down))
        coarse = resize(coarse, down.shape[2:], mode='bilinear', align_corners=False)
        return stem, down, (self.last(down) + coarse).relu()


def model_config(head):
    """Return the config of a segmentor.

    ``head`` is a name of ``HEADS``, ``'FCN'``, the config of a head, or those of a cascade.
    """
    if isinstance(head, str):
        head = FCN if head == 'FCN' else HEADS[head]
    return dict(
        **segmentor_config(head),
        data_preprocessor=dict(
            type='mmseg.SegDataPreProcessor',
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            bgr_to_rgb=True,
        ),
        backbone=dict(type='SmallBackbone'),
    )


def segmentor_config(head, kind='EncoderDecoder'):
    """Return the config of a segmentor, but for its backbone, with a head, or a list of them."""
    config = dict(type=kind, decode_head=head, test_cfg=ConfigDict(mode='whole'))
    if isinstance(head, list):
        config.update(type=kind.replace('Encoder', 'CascadeEncoder'), num_stages=len(head))
    return config


def build_segmentor(head, preprocessor={}, /, **changes):
    """Return such a segmentor in evaluation mode, with weights that are not the trivial ones.

    ``preprocessor`` and ``changes`` are added to the configs of data preprocessor and decode head.
    """
    config = model_config(head)
    config['data_preprocessor'] = {**config['data_preprocessor'], **preprocessor}
    if changes:
        config['decode_head'] = {**config['decode_head'], **changes}
    segmentor = randomize(MODELS.build(config).eval())
    segmentor.dataset_meta = dict(classes=CLASSES, palette=[list(colour) for colour in PALETTE])
    return segmentor


def randomize(module, seed=0):
    """Give a module weights that are not the trivial ones, the same ones each time; return it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))
        for name, tensor in module.named_buffers():
            if name.endswith('running_var'):
                tensor.uniform_(0.5, 1.5, generator=generator)
    return module


def functional(module, *inputs):
    """Return a module as a function of its inputs and parameters, and these, for ``gradcheck``."""
    names, parameters = zip(*module.double().named_parameters(), strict=True)
    leaves = [tensor.double().requires_grad_() for tensor in inputs]

    def forward(*arguments):
        state = dict(zip(names, arguments[len(leaves) :], strict=True))
        return torch.func.functional_call(module, state, arguments[: len(leaves)])

    return forward, (*leaves, *parameters)


def scenes_loader(num_images):
    """Return the config of a loader of small context scenes."""
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        dict(type='PackSegInputs'),
    ]
    dataset = dict(
        type='ContextScenesDataset',
        num_images=num_images,
        image_size=(40, 64),
        seed=1,
        pipeline=pipeline,
    )
    return dict(dataset=dataset, sampler=dict(type='DefaultSampler', shuffle=False))


def write_model(head, folder):
    """Write such a segmentor as config and checkpoint, with test data; return their paths."""
    config = Config(
        dict(default_scope='mmseg', model=model_config(head), test_dataloader=scenes_loader(3))
    )
    lines = (f'{name} = {value!r}\n' for name, value in config.to_dict().items())
    (folder / 'config.py').write_text(''.join(lines))
    segmentor = build_segmentor(head)
    meta = dict(dataset_meta=segmentor.dataset_meta)
    torch.save(dict(state_dict=segmentor.state_dict(), meta=meta), folder / 'model.pth')
    return folder / 'config.py', folder / 'model.pth'

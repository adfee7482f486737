"""The steps that are measured: a forward pass, or losses and their gradients."""

import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmseg_ctx.analysis.benchmark import Case
from mmseg_ctx.analysis.complexity import count

STRIDE = 8  # pixels between neighbours in the last feature map of all suites


def forward_case(name, make, inputs, setting, **options):
    """Return the case of a module's forward pass, in evaluation mode and without gradients.

    Args:
        name (str): Of the case.
        make (Callable): Given a device, returns the module there.
        inputs (Callable): Given a device, returns the module's inputs there.
        setting (Setting): Where and how.
        **options: Further attributes of the case.

    Returns:
        Case: With its complexity, which is counted on the meta device.
    """

    def prepare():
        module = setting.place(make(setting.device)).eval()
        placed = setting.place(inputs(setting.device))

        @torch.no_grad()
        def step():
            with setting.autocast():
                return module(*placed)

        return step

    complexity = count(make('meta'), *inputs('meta'))
    return Case(name, prepare, complexity=complexity, **options)


def training_step(losses, module, *inputs, setting):
    """Return the step of a module's losses and of the gradients of its weights and inputs.

    Args:
        losses (Callable): Given the inputs, returns the dictionary of a decode head's losses.
        module (nn.Module): The module whose weights the losses depend on.
        *inputs (Tensor): Inputs of ``losses``.
        setting (Setting): Where and how.

    Returns:
        Callable[[], None]: The step. The gradients are gone when it ends.
    """
    setting.place(module).train()
    inputs = [setting.place(each).requires_grad_() for each in inputs]

    def step():
        with setting.autocast():
            entries = losses(*inputs)
        sum(value for name, value in entries.items() if 'loss' in name).backward()
        for leaf in (*module.parameters(), *inputs):
            leaf.grad = None

    return step


def labelled_samples(batch, size, classes, device='cpu'):
    """Make data samples with labels of at most twelve classes an image, in blocks.

    Args:
        batch (int): B.
        size (int): H and W, in pixels.
        classes (int): N.
        device (str | torch.device): Where the labels are. Default: ``'cpu'``.

    Returns:
        list[SegDataSample]: With ``gt_sem_seg``.
    """
    rows = torch.arange(size, device=device) * 4 // size
    columns = torch.arange(size, device=device) * 3 // size
    blocks = 3 * rows[:, None] + columns  # [H, W]
    samples = []
    for image in range(batch):
        sample = SegDataSample(metainfo=dict(img_shape=(size, size), ori_shape=(size, size)))
        sample.gt_sem_seg = PixelData(data=(blocks + 12 * image)[None] % classes)
        samples.append(sample)
    return samples

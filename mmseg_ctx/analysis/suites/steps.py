"""The steps that are measured: a forward pass, or losses and their gradients."""

import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

STRIDE = 8  # pixels between neighbours in the last feature map of all suites


def forward_step(module, *inputs, setting):
    """Return the step of a module's forward pass, in evaluation mode and without gradients."""
    module = setting.place(module)
    module.eval()
    inputs = [_place(each, setting) for each in inputs]

    @torch.no_grad()
    def step():
        with setting.autocast():
            return module(*inputs)

    return step


def training_step(losses, module, *inputs, setting):
    """Return the step of a module's losses and of the gradients of its weights and inputs.

    Args:
        losses (Callable): Given the inputs, returns the dictionary of a decode head's losses.
        module (nn.Module): The module whose weights the losses depend on.
        *inputs (Tensor | list[Tensor]): Inputs of ``losses``.
        setting (Setting): Where and how.

    Returns:
        Callable[[], None]: The step. The gradients are gone when it ends.
    """
    setting.place(module).train()
    inputs = [_place(each, setting, gradient=True) for each in inputs]
    leaves = [*module.parameters(), *(leaf for each in inputs for leaf in _tensors(each))]

    def step():
        with setting.autocast():
            entries = losses(*inputs)
        sum(value for name, value in entries.items() if 'loss' in name).backward()
        for leaf in leaves:
            leaf.grad = None

    return step


def _tensors(item):
    return [item] if isinstance(item, torch.Tensor) else item


def _place(item, setting, gradient=False):
    placed = [setting.place(tensor).requires_grad_(gradient) for tensor in _tensors(item)]
    return placed[0] if isinstance(item, torch.Tensor) else placed


def labelled_samples(batch, size, classes, present=12, device='cpu'):
    """Make data samples with labels of a few classes, in blocks.

    Args:
        batch (int): B.
        size (int): H and W, in pixels.
        classes (int): N.
        present (int): How many classes an image has at most. Default: 12.
        device (str | torch.device): Where the labels are. Default: ``'cpu'``.

    Returns:
        list[SegDataSample]: With ``gt_sem_seg``.
    """
    rows = torch.arange(size, device=device) * 4 // size
    columns = torch.arange(size, device=device) * 3 // size
    blocks = (3 * rows[:, None] + columns) % present  # [H, W]
    samples = []
    for image in range(batch):
        sample = SegDataSample(metainfo=dict(img_shape=(size, size), ori_shape=(size, size)))
        label = (blocks + image * present) % classes
        sample.gt_sem_seg = PixelData(data=label[None])
        samples.append(sample)
    return samples

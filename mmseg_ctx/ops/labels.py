"""Check label maps, and resize them to the size of a feature map."""

import torch
import torch.nn.functional as F

IGNORED = 255
"""Value of a label map's ignored pixels, in data sets and in pictures."""


def check_labels(label, num_classes, ignore_index):
    """Refuse labels that are neither a class nor the ignore index, without waiting for a device.

    Args:
        label (Tensor): Integers of any shape.
        num_classes (int): Classes are ``0`` to ``num_classes - 1``.
        ignore_index (int | None): Value of pixels without a label; None if all pixels have one.

    Raises:
        ValueError: On the CPU, if a label is neither. The message has the value.
        RuntimeError: On an accelerator or in a compiled graph, if a label is neither. An
            asynchronous assertion raises it later, without the value in the message.
    """
    valid = (label >= 0) & (label < num_classes)
    if ignore_index is not None:
        valid = valid | (label == ignore_index)
    message = labels_message(num_classes, ignore_index)
    try:
        torch._assert_async(valid.all(), message)
    except RuntimeError:
        # Only the CPU gets here, since the assertion is asynchronous elsewhere.
        raise ValueError(f'{message}, got {label[~valid][0].item()}') from None


def labels_message(num_classes, ignore_index):
    """Return what is wrong with labels that :func:`check_labels` refuses."""
    return f'labels must be in [0, {num_classes}) or the ignore index {ignore_index}'


def mask_ignored(label, ignore_index):
    """Return ``label`` with -1 in place of ``ignore_index``."""
    return label if ignore_index is None else label.masked_fill(label == ignore_index, -1)


def resize_labels(label, size):
    """Resize labels by nearest neighbour, as ``torch.nn.functional.interpolate`` does.

    Args:
        label (Tensor): Integers below 2**24, ``[B, H, W]``.
        size (tuple[int, int]): Height and width of the result.

    Returns:
        Tensor: int64, ``[B, *size]``.
    """
    return F.interpolate(label[:, None].float(), size=size, mode='nearest')[:, 0].long()

"""Depthwise convolution with a kernel for each image and channel."""

import torch
import torch.nn.functional as F


def dynamic_depthwise_conv2d(x, kernels, dilation=1):
    """Convolve each channel of each image with a kernel of its own.

    The batch is folded into the channels of one grouped convolution. Zero padding keeps the size;
    if an even kernel needs an odd number of zeros, the extra one is at the top and at the left.

    ONNX fixes the number of groups of a convolution. So an export with a batch of any size loops
    over the images with ``Scan``, a convolution of C groups for each image. In onnxruntime this is
    not slower.

    Args:
        x (Tensor): ``[B, C, h, w]``, any memory format.
        kernels (Tensor): ``[B, C, k, k]``.
        dilation (int): Distance between the taps of a kernel, in pixels. Default: 1.

    Returns:
        Tensor: ``[B, C, h, w]``, contiguous.

    Raises:
        ValueError: ``kernels`` is not ``[B, C, k, k]`` for the ``B`` and ``C`` of ``x``, or k or
            ``dilation`` is not positive.

    Example:
        >>> dynamic_depthwise_conv2d(torch.rand(2, 8, 5, 7), torch.rand(2, 8, 3, 3)).shape
        torch.Size([2, 8, 5, 7])
    """
    check_kernels(x, kernels, dilation)
    if torch.onnx.is_in_onnx_export() and isinstance(x.size(0), torch.SymInt):
        return _image_by_image(x, kernels, dilation)
    return _grouped_convolution(x, kernels, dilation)


def check_kernels(x, kernels, dilation):
    """Raise the ``ValueError`` of :func:`dynamic_depthwise_conv2d` if the arguments do not fit."""
    if kernels.dim() != 4 or kernels.shape[:2] != x.shape[:2] or kernels.size(2) != kernels.size(3):
        raise ValueError(
            f'kernels must be [B, C, k, k] with B, C = {tuple(x.shape[:2])} as x has them, '
            f'got {tuple(kernels.shape)}'
        )
    if kernels.size(2) < 1 or dilation < 1:
        raise ValueError(
            'the size of kernels and dilation must be at least 1, got '
            f'{tuple(kernels.shape)} and {dilation}'
        )


def _grouped_convolution(x, kernels, dilation):
    batch, channels, height, width = x.shape
    size = kernels.size(-1)
    folded = x.reshape(1, batch * channels, height, width)
    weight = kernels.reshape(batch * channels, 1, size, size)
    total = dilation * (size - 1)
    padding = total // 2
    if total % 2:
        folded = F.pad(folded, (total - padding, padding, total - padding, padding))
        padding = 0
    out = F.conv2d(folded, weight, padding=padding, dilation=dilation, groups=batch * channels)
    return out.reshape(batch, channels, height, width)


def _image_by_image(x, kernels, dilation):
    # Imported here, since only the export needs it and PyTorch calls it a prototype.
    from torch._higher_order_ops.scan import scan

    def convolve(carry, image):
        x, kernels = image  # [C, h, w], [C, k, k]
        return carry.clone(), _grouped_convolution(x[None], kernels[None], dilation)[0]

    nothing = x.new_zeros(())  # a scan must carry something from one image to the next
    return scan(convolve, nothing, (x, kernels))[1]

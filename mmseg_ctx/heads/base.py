"""What the heads of this package share: how they read the backbone, and what they show."""

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize

from mmseg_ctx.utils.recording import show


class ContextHead(BaseDecodeHead):
    """A decode head that checks its inputs, and can show tensors to pictures.

    A subclass's ``forward`` begins with ``self._transform_inputs(inputs)``, and ends with
    ``self.cls_seg(features)``. In between, ``self.show(gate=gate)`` names a tensor that a picture
    of the head shows; see :func:`mmseg_ctx.utils.recording.show`.

    Args:
        *args: Arguments of ``BaseDecodeHead``.
        **kwargs: Arguments of ``BaseDecodeHead``.

    Attributes:
        layers (dict): ``conv_cfg``, ``norm_cfg`` and ``act_cfg``, as ``ConvModule`` takes them.
    """

    show = show

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.layers = dict(conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg)

    def _transform_inputs(self, inputs):
        """Return what the head reads of the outputs of the backbone or the neck.

        Args:
            inputs (Sequence[Tensor]): The outputs, each ``[B, C, h, w]``.

        Returns:
            Tensor | list[Tensor]: One map, or several if ``input_transform`` is
            ``'multiple_select'``.

        Raises:
            ValueError: ``in_index`` or ``in_channels`` does not fit the outputs.
        """
        check_features(inputs, self.in_index, self.in_channels)
        if self.input_transform == 'resize_concat':
            maps = [inputs[index] for index in self.in_index]
            resized = [resize_like(each, maps[0], self.align_corners) for each in maps]
            return torch.cat(resized, dim=1)
        return super()._transform_inputs(inputs)


def resize_like(x, other, align_corners=False):
    """Return ``x`` ``[B, C, h', w']`` at the size of ``other``, ``[B, C, h, w]``, bilinear."""
    # MMSegmentation's warning about sizes would break the graph of torch.compile.
    return resize(x, other.shape[2:], mode='bilinear', align_corners=align_corners, warning=False)


def check_features(inputs, index, channels, prefix='in'):
    """Check that the backbone's outputs are there, with the channels that a head was built for.

    Args:
        inputs (Sequence[Tensor]): The backbone's outputs, each ``[B, C, h, w]``.
        index (int | Sequence[int]): Indices of the outputs that the head reads.
        channels (int | Sequence[int]): Channels of these outputs, or their sum.
        prefix (str): Beginning of the arguments' names, before ``_index`` and ``_channels``.
            Default: ``'in'``.

    Raises:
        ValueError: An index is out of range, or an output has another number of channels.
    """
    indices = index if isinstance(index, (list, tuple)) else [index]
    if not all(-len(inputs) <= each < len(inputs) for each in indices):
        raise ValueError(
            f"{prefix}_index must be among the backbone's {len(inputs)} outputs, got {index!r}"
        )
    found = [inputs[each].size(1) for each in indices]
    listed = isinstance(channels, (list, tuple))
    found, expected = (found, list(channels)) if listed else (sum(found), channels)
    if found != expected:
        raise ValueError(
            f'{prefix}_channels must be {found}, the channels of the backbone at '
            f'{prefix}_index={index!r}, got {channels!r}'
        )

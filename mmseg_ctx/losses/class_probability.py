"""Class probability loss of the Context-based Tandem Network (CTNet).

Li, Sun, Zhang, Tang: CTNet: Context-based Tandem Network for Semantic Segmentation, IEEE TPAMI 2022
(https://arxiv.org/abs/2104.09805), Section 3.2.
"""

import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import nn

from mmseg_ctx.ops import at_least_float32, autocast_off, check_labels, mask_ignored
from mmseg_ctx.utils.arguments import NonNegative, validate_arguments


@MODELS.register_module()
class ClassProbabilityLoss(nn.Module):
    """CP-Loss: binary cross-entropy between P_p and the share of each class in the image (Eq. 4).

    The loss is the mean over all B·N entries, computed in float32 even under autocast. An image
    without a labelled pixel adds zero to the sum.

    Args:
        loss_weight (float): β of Eq. 8. Default: 0.1.

    Example:
        >>> loss = ClassProbabilityLoss(loss_weight=1.0)
        >>> label = torch.tensor([[[0, 0, 1, 255]]])
        >>> loss(torch.tensor([[0.7, 0.3]]), label).item()
        0.6391...
    """

    loss_name = 'loss_class_probability'

    @validate_arguments
    def __init__(self, loss_weight: NonNegative = 0.1):
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, class_probabilities, label, ignore_index=255):
        """Return the weighted loss, a scalar.

        Args:
            class_probabilities (Tensor): P_p ``[B, N]``, between 0 and 1.
            label (Tensor): Class indices ``[B, H, W]``.
            ignore_index (int | None): Value of pixels without a label. Default: 255.

        Raises:
            ValueError: See :func:`mmseg_ctx.ops.check_labels`.
        """
        class_probabilities = at_least_float32(class_probabilities)
        shares = class_shares(label, class_probabilities.shape[1], ignore_index)
        entropy = _binary_cross_entropy(class_probabilities, shares)  # [B, N]
        labelled = shares.sum(dim=1, keepdim=True) > 0  # [B, 1]
        return self.loss_weight * (entropy * labelled).mean()


def class_shares(label, num_classes, ignore_index=255):
    """Return the share of each class among the labelled pixels of each image.

    Args:
        label (Tensor): Classes or ``ignore_index``, ``[B, H, W]``.
        num_classes (int): N.
        ignore_index (int | None): Label of pixels without a class. Default: 255.

    Returns:
        Tensor: P_gt ``[B, N]``; 0 for all classes of an image without a labelled pixel.
    """
    check_labels(label, num_classes, ignore_index)
    label = mask_ignored(label.flatten(1).long(), ignore_index)  # [B, H * W]
    # An ignored pixel adds 0 to class 0.
    counts = label.new_zeros(len(label), num_classes)
    counts.scatter_add_(1, label.clamp(min=0), (label >= 0).long())
    return counts / counts.sum(dim=1, keepdim=True).clamp(min=1)


def _binary_cross_entropy(probabilities, target):
    """Return the binary cross-entropy of each entry, or NaN where the probability is NaN."""
    # PyTorch's function raises under autocast, and on a GPU a NaN makes it end the process.
    with autocast_off(probabilities):
        entropy = F.binary_cross_entropy(
            probabilities.nan_to_num(), target.to(probabilities.dtype), reduction='none'
        )
    return entropy.where(~probabilities.isnan(), probabilities)

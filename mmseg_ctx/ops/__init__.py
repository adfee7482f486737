"""Pure functions of tensors.

Every docstring of the package uses these letters for shapes:

====  =====================================
B     images in a batch
C     channels
d     width of the classifier's input
N     classes
H, W  height and width of the label
h, w  height and width of the feature map
k     kernel size
====  =====================================
"""

from mmseg_ctx.ops.cosine import cosine_logits, dot_logits
from mmseg_ctx.ops.depthwise import dynamic_depthwise_conv2d
from mmseg_ctx.ops.interpolation import Interpolation
from mmseg_ctx.ops.labels import IGNORED, check_labels, mask_ignored, resize_labels
from mmseg_ctx.ops.pixel_losses import pixel_losses, upsampled_cross_entropy
from mmseg_ctx.ops.pooling import adaptive_avg_pool2d
from mmseg_ctx.ops.precision import at_least_float32, autocast_off
from mmseg_ctx.ops.prototypes import class_prototypes, one_hot
from mmseg_ctx.ops.resizable_logits import ResizableLogits, WindowedLogits, full_size
from mmseg_ctx.ops.resized_logits import ResizedLogits, averaged_labels, predicted_labels
from mmseg_ctx.ops.spatial_weights import spatially_varying_weights

__all__ = [
    'IGNORED',
    'Interpolation',
    'ResizableLogits',
    'ResizedLogits',
    'WindowedLogits',
    'adaptive_avg_pool2d',
    'at_least_float32',
    'autocast_off',
    'averaged_labels',
    'check_labels',
    'class_prototypes',
    'cosine_logits',
    'dot_logits',
    'dynamic_depthwise_conv2d',
    'full_size',
    'mask_ignored',
    'one_hot',
    'pixel_losses',
    'predicted_labels',
    'resize_labels',
    'spatially_varying_weights',
    'upsampled_cross_entropy',
]

"""Pure functions, tensor in, tensor out.

Shape letters, used by every docstring of the package:

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

from mmseg_ctx.ops.depthwise import dynamic_depthwise_conv2d
from mmseg_ctx.ops.precision import autocast_off, widen
from mmseg_ctx.ops.spatial_weights import spatially_varying_weights

__all__ = ['autocast_off', 'dynamic_depthwise_conv2d', 'spatially_varying_weights', 'widen']

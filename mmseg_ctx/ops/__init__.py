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

__all__ = ['dynamic_depthwise_conv2d']

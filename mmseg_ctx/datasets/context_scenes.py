"""The context scenes as a data set of MMSegmentation, whose files a backend of MMEngine draws."""

import io
import re
from functools import lru_cache
from typing import Annotated, ClassVar

from mmengine.fileio import BaseStorageBackend, register_backend
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS
from PIL import Image

from mmseg_ctx.datasets.scenes import CLASSES, PALETTE, render_scene
from mmseg_ctx.utils.arguments import NonNegativeInt, PositiveInt, at_least, validate_arguments

MINIMUM_SIDE = 32
"""Smallest side of an image. Objects of 1/32 of the side then have at least one pixel."""
Side = Annotated[int, at_least(MINIMUM_SIDE)]

PREFIX = 'context-scenes'
PATH = re.compile(rf'{PREFIX}://context_scene_(\d+)_(\d+)_(\d+)x(\d+)(_label)?\.png')


@DATASETS.register_module()
class ContextScenesDataset(BaseSegDataset):
    """Drawn scenes. Only distant context tells some of their classes apart.

    Four classes of ground look alike. Only a kite in the sky, with 0.3 % of the pixels, shows which
    of them an image has. Two classes of crates, dark and light, differ only relative to the other
    crates of the image. Objects have sizes from 1/32 to 1/2 of the image's side; poles and wires
    are one to three pixels wide. Tent and campfire only occur together, and so do pole and wire.
    Some objects have an ignored border.

    The data set reads nothing from disk: ``LoadImageFromFile`` and ``LoadAnnotations`` read PNG
    files from :class:`ContextScenesBackend`, which draws them from ``(seed, index)``.

    Args:
        num_images (int): Number of scenes. Default: 1000.
        image_size (int | Sequence[int]): Side, or height and width, in pixels, at least 32 each.
            Default: 128.
        seed (int): Data sets of different seeds share no scene. Default: 0.
        **kwargs: Arguments of ``BaseSegDataset``, such as ``pipeline``, ``metainfo`` or
            ``indices``.

    Example:
        >>> dataset = ContextScenesDataset(
        ...     num_images=10,
        ...     pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')])
        >>> dataset[3]['img'].shape, dataset[3]['gt_seg_map'].shape
        ((128, 128, 3), (128, 128))
    """

    METAINFO: ClassVar[dict] = dict(
        classes=CLASSES,
        palette=[list(colour) for colour in PALETTE],
        context_classes=('water', 'sand', 'road', 'grass'),
        relative_classes=('dark crate', 'light crate'),
        thin_classes=('pole', 'wire'),
    )

    @validate_arguments
    def __init__(
        self,
        num_images: PositiveInt = 1000,
        image_size: Side | tuple[Side, Side] = 128,
        seed: NonNegativeInt = 0,
        **kwargs,
    ):
        self.num_images = num_images
        several = isinstance(image_size, list | tuple)
        self.image_size = tuple(image_size) if several else (image_size,) * 2
        self.seed = seed
        super().__init__(**kwargs)

    def load_data_list(self):
        """Return an entry for each scene, with the usual keys."""
        height, width = self.image_size
        names = [
            f'{PREFIX}://context_scene_{self.seed}_{index:06d}_{height}x{width}'
            for index in range(self.num_images)
        ]
        return [
            dict(
                img_path=f'{name}.png',
                seg_map_path=f'{name}_label.png',
                label_map=self.label_map,
                reduce_zero_label=self.reduce_zero_label,
                seg_fields=[],
            )
            for name in names
        ]


@register_backend(PREFIX, prefixes=PREFIX)
class ContextScenesBackend(BaseStorageBackend):
    """MMEngine's file backend for the paths of :class:`ContextScenesDataset`.

    Example:
        >>> from mmengine import fileio
        >>> png = fileio.get('context-scenes://context_scene_1_000003_128x128.png')
        >>> labels = fileio.get('context-scenes://context_scene_1_000003_128x128_label.png')
    """

    def get(self, filepath):
        """Return the scene of a path, or its label, as the bytes of a PNG file.

        Raises:
            FileNotFoundError: The path names no scene.
        """
        match = PATH.fullmatch(str(filepath))
        seed, index, *sides = map(int, match.groups()[:4]) if match else (0, 0, 0)
        if min(sides) < MINIMUM_SIDE:
            raise FileNotFoundError(
                f'{str(filepath)!r} is no scene: a path must be {PREFIX}://context_scene_'
                f'SEED_INDEX_HEIGHTxWIDTH.png or …_label.png, with sides >= {MINIMUM_SIDE}'
            )
        image, label = _render(seed, index, *sides)
        png = io.BytesIO()
        Image.fromarray(label if match[5] else image).save(png, 'png', compress_level=1)
        return png.getvalue()

    def get_text(self, filepath):
        """Raise a TypeError, since a scene is not a text file."""
        raise TypeError(f'{filepath} is an image, not a text file')


# Cached, since a label is usually read right after its image.
_render = lru_cache(maxsize=1)(render_scene)

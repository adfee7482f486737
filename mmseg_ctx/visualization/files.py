"""Read images through a config's test pipeline."""

from functools import partial
from pathlib import Path

import mmcv
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import DATASETS

from mmseg_ctx.utils.configs import require
from mmseg_ctx.utils.datasets import inner_datasets, type_name
from mmseg_ctx.utils.errors import value_errors

TEST_PREFIX = 'test:'


def test_dataset_config(config):
    """Return the config of the test data set, or of the first one inside ``ConcatDataset``.

    Raises:
        ValueError: The config has no test data set, or it has no pipeline.
    """
    require(config, 'test_dataloader.dataset')
    dataset = inner_datasets(config.test_dataloader.dataset)[0]
    if not dataset.get('pipeline'):
        raise ValueError(f'{config.filename or "the config"} has no pipeline for its test data')
    return dataset


def item_readers(config, images, labels=None, max_side=None):
    """Return a function for each image, which reads it as an item of a test data set.

    Args:
        config (Config): A config with ``test_dataloader.dataset``.
        images (Sequence[str]): Image files, or ``'test:3'`` for image 3 of the config's test data
            set, counted from 0, with its label.
        labels (Sequence[str] | None): The file of each image's ground truth, in the format of the
            config's data set; None for no ground truth. Default: None.
        max_side (int | None): A file's image whose longer side has more pixels is made smaller.
            Default: None.

    Returns:
        list[Callable[[], dict]]: Each returns ``inputs``, uint8 ``[3, H, W]``, and
        ``data_samples``, a ``SegDataSample``, or raises a ValueError where that fails.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: The numbers of images and labels differ, there are labels for images of the
            data set, or the data set cannot be built or has no such image.
    """
    tests = [image for image in images if image.startswith(TEST_PREFIX)]
    if labels and tests:
        raise ValueError(
            f'labels must be for image files, but {tests[0]} is an image of the test data set'
        )
    if labels and len(images) != len(labels):
        raise ValueError(
            f'labels must be one file for each of the {len(images)} images, got {len(labels)}'
        )
    for path in (*images, *(labels or ())):
        if path not in tests and not Path(path).is_file():
            raise FileNotFoundError(
                f'{path} is neither a file nor {TEST_PREFIX}N, an image of the test data set'
            )
    file_config = test_dataset_config(config)
    init_default_scope(config.get('default_scope') or 'mmseg')
    with value_errors('the test data of the config cannot be read'):
        dataset = DATASETS.build(config.test_dataloader.dataset) if tests else ()
        own = {}
        if labels:  # of the user's own files: the data set's folder need not exist
            lazy = DATASETS.build({**file_config, 'lazy_init': True})
            own = dict(label_map=lazy.label_map, reduce_zero_label=lazy.reduce_zero_label)
        transform = _file_transform(file_config.pipeline, bool(labels), max_side)
    known = [f'{TEST_PREFIX}{index}' for index in range(len(dataset))]
    readers = []
    for image, label in zip(images, labels or [None] * len(images), strict=True):
        if image in tests and image not in known:
            raise ValueError(
                f'an image of the test data set must be {TEST_PREFIX}0 to '
                f'{TEST_PREFIX}{len(dataset) - 1}, got {image!r}'
            )
        results = dict(img_path=image, seg_map_path=label, seg_fields=[], **own)
        read = partial(transform, results)
        if image in tests:
            read = partial(dataset.__getitem__, known.index(image))
        readers.append(value_errors(f'{label or image} cannot be read')(read))
    return readers


def _file_transform(pipeline, with_label, max_side):
    """Build a test pipeline for images that are not in the config's data set."""
    transforms, label_step = [], dict(type=LoadAnnotations)
    for transform in pipeline:
        name = type_name(transform)
        if name.startswith('Load') and 'Annotation' in name:
            label_step = transform
        else:
            transforms.append(transform)
    transforms[-1:-1] = [label_step] * with_label
    if max_side:
        transforms.insert(1, partial(_shrink, max_side))
    return Compose(transforms)


def _shrink(max_side, results):
    image = results['img']
    if max(image.shape[:2]) > max_side:
        results['img'] = image = mmcv.imrescale(image, (max_side, max_side))
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
    return results

"""Read images through a config's test pipeline."""

from functools import partial
from pathlib import Path

import mmcv
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import DATASETS

from mmseg_ctx.utils.configs import require
from mmseg_ctx.utils.datasets import inner_datasets
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


@value_errors('the test data of the config cannot be read')
def build_test_data(config):
    """Build the test data set of a config; raise a ValueError where that fails."""
    return DATASETS.build(config.test_dataloader.dataset)


def read_items(config, images, labels=None, max_side=None):
    """Read images as items of a test data set, one after the other.

    Args:
        config (Config): A config with ``test_dataloader.dataset``.
        images (Sequence[str]): Image files, or ``'test:3'`` for image 3 of the config's test data
            set, counted from 0, with its label.
        labels (Sequence[str] | None): The file of each image's ground truth, in the format of the
            config's data set; None for no ground truth. Default: None.
        max_side (int | None): A file's image whose longer side has more pixels is made smaller.
            Default: None.

    Yields:
        dict: ``inputs``, uint8 ``[3, H, W]``, and ``data_samples``, a ``SegDataSample``.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: The numbers of images and labels differ, there are labels for images of the
            data set, the data set cannot be built or has no such image, or a file cannot be read.
    """
    tests = [image for image in images if image.startswith(TEST_PREFIX)]
    if labels and tests:
        raise ValueError(
            f'labels must be for image files, but {tests[0]} is an image of the test data set'
        )
    labels = labels or [None] * len(images)
    if len(images) != len(labels):
        raise ValueError(
            f'labels must be one file for each of the {len(images)} images, got {len(labels)}'
        )
    # These errors come before the first item.
    for path in filter(None, [*images, *labels]):
        if path not in tests and not Path(path).is_file():
            raise FileNotFoundError(
                f'{path} is neither a file nor {TEST_PREFIX}N, an image of the test data set'
            )
    init_default_scope(config.get('default_scope') or 'mmseg')
    pipeline = _file_pipeline(test_dataset_config(config), any(labels), max_side)
    dataset = build_test_data(config) if tests else ()
    known = [f'{TEST_PREFIX}{index}' for index in range(len(dataset))]
    for image in tests:
        if image not in known:
            raise ValueError(
                f'an image of the test data set must be {known[0]} to {known[-1]}, got {image!r}'
            )
    for image, label in zip(images, labels, strict=True):
        with value_errors(f'{label or image} cannot be read'):
            file = dict(img_path=image, seg_map_path=label, seg_fields=[])
            item = dataset[known.index(image)] if image in tests else pipeline(file)
        yield item


@value_errors('the test data of the config cannot be read')
def _file_pipeline(config, with_label, max_side):
    """Build a test pipeline for images that are not in the config's data set."""
    load, *steps, pack = Compose(config.pipeline).transforms
    annotate = [step for step in steps if isinstance(step, LoadAnnotations)] or [LoadAnnotations()]
    steps = [step for step in steps if step not in annotate]
    if with_label:
        dataset = DATASETS.build({**config, 'lazy_init': True})  # its folder need not exist
        own = dict(label_map=dataset.label_map, reduce_zero_label=dataset.reduce_zero_label)
        steps += [lambda results: {**results, **own}, annotate[0]]
    return Compose([load, partial(_shrink, max_side), *steps, pack])


def _shrink(max_side, results):
    image = results['img']
    if max_side and max(image.shape[:2]) > max_side:
        results['img'] = image = mmcv.imrescale(image, (max_side, max_side))
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
    return results

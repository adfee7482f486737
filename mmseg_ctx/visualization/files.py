"""Read images through a config's test pipeline, and write the sheets about them."""

from pathlib import Path

import cv2
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import Compose
from mmseg.datasets.transforms import LoadAnnotations, LoadImageFromNDArray
from mmseg.registry import DATASETS

from mmseg_ctx.utils.configs import require
from mmseg_ctx.utils.datasets import inner_datasets, type_name
from mmseg_ctx.utils.errors import value_errors
from mmseg_ctx.utils.files import check_folder, check_writable, write_figure, writing
from mmseg_ctx.visualization.context import draw_context

TEST_PREFIX = 'test:'
DPI = 120


def item_readers(config, images, labels=None):
    """Return a function for each image, which reads it as an item of a test data set.

    Args:
        config (Config): A config with ``test_dataloader.dataset``.
        images (Sequence[str]): Image files, or ``'test:3'`` for image 3 of the config's test data
            set, counted from 0, with its label.
        labels (Sequence[str] | None): The file of each image's ground truth, in the format of the
            config's data set; None for no ground truth. Default: None.

    Returns:
        list[Callable[[], dict]]: Each returns ``inputs``, uint8 ``[3, H, W]``, and
        ``data_samples``, a ``SegDataSample``, or raises a ValueError where that fails.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: The numbers of images and labels differ, there are labels for images of the
            data set, a file is no image, or the data set cannot be built or has no such image.
    """
    tests = [image for image in images if image.startswith(TEST_PREFIX)]
    if labels and tests:
        raise ValueError(
            f'labels must be for image files, but {tests[0]} is an image of the test data set'
        )
    labels = [None] * len(images) if labels is None else labels
    if len(images) != len(labels):
        raise ValueError(
            f'labels must be one file for each of the {len(images)} images, got {len(labels)}'
        )
    dataset_config = test_dataset(config)
    with value_errors('the test data set of the config cannot be read'):
        dataset = DATASETS.build(config.test_dataloader.dataset) if tests else None
        # For the user's own files, the data set's folder need not exist.
        lazy = DATASETS.build({**dataset_config, 'lazy_init': True})
    return [
        _test_reader(dataset, image)
        if image.startswith(TEST_PREFIX)
        else _file_reader(lazy, dataset_config.pipeline, image, label)
        for image, label in zip(images, labels, strict=True)
    ]


def test_dataset(config):
    """Return the config of the test data set, or of the first one inside ``ConcatDataset``.

    Raises:
        ValueError: The config has no test data set, or it has no pipeline.
    """
    require(config, 'test_dataloader.dataset')
    dataset = inner_datasets(config.test_dataloader.dataset)[0]
    if not dataset.get('pipeline'):
        raise ValueError(f'{config.filename or "the config"} has no pipeline for its test data')
    return dataset


def _file_reader(dataset, pipeline, image, label):
    for path in (image, label):
        if path is not None and not Path(path).is_file():
            raise FileNotFoundError(
                f'{path} is neither a file nor {TEST_PREFIX}N, an image of the test data set'
            )
        if path is not None and not cv2.haveImageReader(str(path)):
            raise ValueError(f'{path} is not an image of a format that OpenCV reads')
    transform = build_transform(pipeline, label is not None)
    results = dict(
        img_path=image,
        seg_map_path=label,
        label_map=dataset.label_map,
        reduce_zero_label=dataset.reduce_zero_label,
    )
    name = ' or '.join(filter(None, (image, label)))
    return _guarded(name, lambda: transform(dict(results, seg_fields=[])))


def _test_reader(dataset, name):
    text = name.removeprefix(TEST_PREFIX)
    if not text.isdecimal() or int(text) >= len(dataset):
        raise ValueError(
            f'an image of the test data set must be {TEST_PREFIX}0 to '
            f'{TEST_PREFIX}{len(dataset) - 1}, got {name!r}'
        )
    return _guarded(name, lambda: dataset[int(text)])


def _guarded(name, read):
    def guarded():
        with value_errors(f'{name} cannot be read'):
            return read()

    return guarded


def build_transform(pipeline, with_label=False, array=False):
    """Build a config's test pipeline for images that are not in the config's data set.

    Args:
        pipeline (list[dict]): The test pipeline, which loads or renders an image.
        with_label (bool): Whether the pipeline also loads ``seg_map_path``. Default: False.
        array (bool): Whether it begins with the image ``img`` instead of its file ``img_path``.
            Default: False.

    Returns:
        Callable: It takes a ``dict`` with ``img_path`` or ``img``, and returns an item of a data
        set.

    Raises:
        ValueError: The pipeline cannot be built.
    """
    transforms, loads_label = [], False
    for transform in pipeline:
        name = type_name(transform)
        if name.startswith('Load') and 'Annotation' in name:
            loads_label = with_label
            transforms += [transform] * with_label
        elif array and (name.startswith('Load') or name == 'RenderContextScene'):
            transforms.append(dict(type=LoadImageFromNDArray))
        elif name == 'RenderContextScene':
            transforms.append(dict(type=LoadImageFromFile))
        else:
            transforms.append(transform)
    if with_label and not loads_label:
        transforms.insert(len(transforms) - 1, dict(type=LoadAnnotations))
    with value_errors('the test pipeline of the config cannot be built'):
        return Compose(transforms)


def sheet_paths(images, folder, force=False, labels=None):
    """Return the path of each image's sheet, and check that it can be written.

    Args:
        images (Sequence[str]): See :func:`item_readers`.
        folder (str | Path): The folder of the sheets.
        force (bool): Whether existing files may be replaced. Default: False.
        labels (Sequence[str] | None): See :func:`item_readers`. Default: None.

    Returns:
        list[Path]: Named after the images, with the suffix ``.png``.

    Raises:
        FileExistsError: A file exists, and ``force`` is False.
        OSError: ``folder`` cannot be made or written to, or one of the paths is a folder.
        ValueError: Two images have the same name, or a sheet would replace an image or a label.
    """
    check_folder(folder)
    paths = [Path(folder) / f'{Path(image.replace(":", "-")).stem}.png' for image in images]
    for path in paths:
        if paths.count(path) > 1:
            raise ValueError(f'images must differ in their names, but several would give {path}')
        if path.parent.is_dir():
            check_writable(path, force, (*images, *(labels or ())))
    return paths


def write_sheet(segmentor, item, path, force=False):
    """Draw an image's sheet into a file.

    Args:
        segmentor (BaseSegmentor): See :func:`mmseg_ctx.visualization.context.draw_context`; its
            ``dataset_meta`` has the classes.
        item (dict): See :func:`mmseg_ctx.visualization.context.draw_context`.
        path (Path): The file. Its folder is made where it does not exist.
        force (bool): Whether an existing file may be replaced. Default: False.
    """
    figure = draw_context(segmentor, item, segmentor.dataset_meta)
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path, force) as temporary:
        write_figure(figure, temporary, DPI)
